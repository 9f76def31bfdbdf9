import torch
import torch.nn as nn
import torch.nn.functional as F

def distill(student, teacher, x):
    s = F.log_softmax(student(x) / 4, dim=1)
    t = F.softmax(teacher(x) / 4, dim=1)
    return nn.KLDivLoss()(s, t)  # expect: SL205
