import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
criterion = nn.MSELoss()
for x, y in loader:
    pred = model(x).squeeze()  # expect: SL203
    loss = criterion(pred, y)
    loss.backward()
