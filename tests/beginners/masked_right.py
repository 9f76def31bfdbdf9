import torch
import torch.nn as nn
import torch.nn.functional as F

def loss_of(pred, target, mask):
    loss = F.mse_loss(pred, target, reduction="none")
    return (loss * mask).sum() / mask.sum()
