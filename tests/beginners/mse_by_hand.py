import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Linear(3, 1)
for x, labels in loader:
    predictions = model(x)
    loss = ((predictions - labels) ** 2).mean()  # expect: SL211
    loss.backward()
