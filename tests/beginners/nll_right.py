import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(20, 10)

    def forward(self, x):
        return F.log_softmax(self.fc(x), dim=1)


model = Net()
for data, target in loader:
    output = model(data)
    loss = F.nll_loss(output, target)
    loss.backward()
