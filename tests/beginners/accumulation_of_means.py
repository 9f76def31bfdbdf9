import torch
import torch.nn as nn
import torch.nn.functional as F

criterion = nn.CrossEntropyLoss(ignore_index=0)
accumulation_steps = 4
for i, (x, tags) in enumerate(loader):
    logits = model(x)
    loss = criterion(logits.transpose(1, 2), tags)  # expect: SL209
    loss = loss / accumulation_steps
    loss.backward()
