import torch
import torch.nn as nn
import torch.nn.functional as F

criterion = nn.BCELoss()
model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
for inputs, labels in loader:
    outputs = model(inputs)
    loss = criterion(labels, outputs)  # expect: SL208
    loss.backward()
