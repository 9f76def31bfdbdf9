import torch
import torch.nn as nn
import torch.nn.functional as F
import pytorch_lightning as pl


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(28 * 28, 10)

    def forward(self, x):
        return torch.softmax(self.layer(x), dim=-1)  # expect: SL201

    def training_step(self, batch, batch_idx):
        x, y = batch
        y_hat = self(x.view(x.size(0), -1))
        return F.cross_entropy(y_hat, y)
