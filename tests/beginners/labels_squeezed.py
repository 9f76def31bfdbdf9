import torch
import torch.nn as nn
import torch.nn.functional as F

criterion = nn.CrossEntropyLoss()
for x, y in loader:
    y = torch.squeeze(y)  # expect: SL203
    loss = criterion(model(x), y.long())
