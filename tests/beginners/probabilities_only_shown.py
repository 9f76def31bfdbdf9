import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        logits = self.fc(x)
        if self.training:
            return logits
        return self.softmax(logits)


net = Net()
criterion = nn.CrossEntropyLoss()
logits = net(torch.rand(8, 4))
print(F.softmax(logits, dim=1))
loss = criterion(logits, torch.randint(3, (8,)))
