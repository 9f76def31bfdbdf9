import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import BertModel


class Toxic(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased")
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(768, 6)

    def forward(self, ids, mask):
        pooled = self.bert(ids, attention_mask=mask)[1]
        return self.out(self.drop(pooled)).sigmoid()  # expect: SL201


def train(loader, device):
    model = Toxic().to(device)
    for batch in loader:
        outputs = model(batch["ids"].to(device), batch["mask"].to(device))
        loss = nn.BCEWithLogitsLoss()(outputs, batch["targets"].to(device))
        loss.backward()
