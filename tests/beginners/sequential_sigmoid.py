import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Sequential(
    nn.Linear(8, 16),
    nn.ReLU(),
    nn.Linear(16, 1),
    nn.Sigmoid(),  # expect: SL201
)
criterion = nn.BCEWithLogitsLoss()
for x, y in loader:
    loss = criterion(model(x), y.view(-1, 1))
