import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Sequential(nn.Linear(4, 3), nn.Softmax())  # expect: SL201 SL206
criterion = nn.CrossEntropyLoss()
x, y = torch.rand(8, 4), torch.randint(3, (8,))
y_pred = model(x)
print(criterion(y_pred, y))
