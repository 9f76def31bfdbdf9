import torch
import torch.nn as nn
import torch.nn.functional as F

def bce(y_true, y_pred):
    return F.binary_cross_entropy(y_true, y_pred)  # expect: SL208
