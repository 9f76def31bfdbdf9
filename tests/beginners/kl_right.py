import torch
import torch.nn as nn
import torch.nn.functional as F

def distill(student, teacher, x):
    s = F.softmax(student(x), dim=1).log()
    t = F.softmax(teacher(x), dim=1)
    return F.kl_div(s, t, reduction="batchmean") + F.kl_div(s, t, size_average=False)
