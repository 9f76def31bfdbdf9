import torch
import torch.nn as nn
import torch.nn.functional as F

device = torch.device("cuda")
model = nn.Linear(10, 2).to(device)
weights = torch.tensor([1.0, 9.0]).to(device)
criterion = nn.CrossEntropyLoss(weight=weights)
other = nn.CrossEntropyLoss(weight=torch.ones(2)).to(device)
third = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0], device=device))
for x, y in loader:
    logits = model(x.to(device))
    loss = criterion(logits, y) + other(logits, y) + third(logits, y)
