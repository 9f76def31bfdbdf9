import torch
import torch.nn as nn
import torch.nn.functional as F

class Spam(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(1000, 32)
        self.fc = nn.Linear(32, out_features=1)  # expect: SL204

    def forward(self, text, labels):
        logits = self.fc(self.embedding(text))
        return F.cross_entropy(logits, labels)
