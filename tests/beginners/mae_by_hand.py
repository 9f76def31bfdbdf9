import torch
import torch.nn as nn
import torch.nn.functional as F

def mae(output, target):
    return torch.mean(torch.abs(output - target))  # expect: SL211
