import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(30, 1)

    def forward(self, x):
        return self.fc(x).squeeze()  # expect: SL203


def train(train_loader, device):
    model = Net().to(device)
    criterion = nn.BCEWithLogitsLoss()
    for x, y in train_loader:
        out = model(x.to(device))
        loss = criterion(out, y.float().to(device))
        loss.backward()
