import torch
import torch.nn as nn
import torch.nn.functional as F

def loss_of(pred, target, mask):
    loss = F.mse_loss(pred, target, reduction="none")
    loss = loss * mask.unsqueeze(-1)
    return loss.mean()  # expect: SL210
