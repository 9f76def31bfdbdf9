import torch
import torch.nn as nn
import torch.nn.functional as F

def predict(model, x):
    with torch.no_grad():
        return F.softmax(model(x)).argmax(1)  # expect: SL206
