import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Sequential(nn.Linear(4, 3))
for x, y_true in loader:
    y_pred = model(x)
    loss = F.cross_entropy(y_true, y_pred)  # expect: SL208
