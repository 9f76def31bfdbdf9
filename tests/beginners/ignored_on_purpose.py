import torch
import torch.nn as nn
import torch.nn.functional as F

def loss_of(model, x, y):
    return F.mse_loss(model(x).squeeze(), y)  # safeloss: ignore[SL203]
