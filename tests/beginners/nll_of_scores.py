import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.fc = nn.Linear(8 * 26 * 26, 10)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = torch.flatten(x, 1)
        return self.fc(x)  # expect: SL202


net = Net()
criterion = nn.NLLLoss()
loss = criterion(net(torch.rand(2, 1, 28, 28)), torch.tensor([1, 2]))
