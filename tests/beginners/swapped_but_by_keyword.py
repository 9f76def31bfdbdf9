import torch
import torch.nn as nn
import torch.nn.functional as F

def bce(y_true, y_pred):
    return F.binary_cross_entropy(target=y_true, input=y_pred)
