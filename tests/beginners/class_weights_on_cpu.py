import torch
import torch.nn as nn
import torch.nn.functional as F

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = nn.Linear(10, 2).to(device)
class_weights = torch.tensor([1.0, 9.0])  # expect: SL207
criterion = nn.CrossEntropyLoss(weight=class_weights)
for x, y in loader:
    loss = criterion(model(x.to(device)), y.to(device))
