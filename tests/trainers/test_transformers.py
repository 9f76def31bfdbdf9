"""Hugging Face Transformers: `Trainer`, and heads that build their loss inside."""

import pytest

pytest.importorskip("transformers")

# part: loss
from transformers import Trainer, TrainingArguments

from safeloss import SafeCrossEntropyLoss

tokens_last = SafeCrossEntropyLoss(class_dim=-1)


def loss_of_tokens(outputs, labels, num_items_in_batch=None):
    """The mean over all tokens of a step, also over the batches of gradient accumulation."""
    return tokens_last(outputs.logits, labels, denominator=num_items_in_batch)


def trainer(model, arguments, data, loss=loss_of_tokens):
    return Trainer(model, arguments, train_dataset=data, compute_loss_func=loss)


# end


# part: shifted
def loss_of_next_tokens(outputs, labels, num_items_in_batch=None):
    """For models such as GPT: the scores of each token are for the next one."""
    scores, labels = outputs.logits[:, :-1], labels[:, 1:]
    return tokens_last(scores, labels, denominator=num_items_in_batch)


# end

from pathlib import Path
from typing import Any

import torch
from samples import regression, weights
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    TrainerCallback,
)

import safeloss
from safeloss import LayoutError

TINY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tagger() -> BertForTokenClassification:
    torch.manual_seed(0)
    return BertForTokenClassification(BertConfig(**TINY, num_labels=5))


def tagged() -> list[dict[str, Tensor]]:
    """Sentences of 12 words, each with another number of tags that count."""
    torch.manual_seed(1)
    sentences = []
    for known in range(1, 13):
        labels = torch.randint(5, (12,))
        labels[known:] = -100
        sentences.append({"input_ids": torch.randint(50, (12,)), "labels": labels})
    return sentences


class Curve(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def arguments(folder: Path, batch: int = 4, accumulated: int = 1, **more: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
        logging_steps=1,
        learning_rate=0.1,
        optim="sgd",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **{"num_train_epochs": 2, "save_strategy": "no", **more},
    )


def curve(folder: Path, model: nn.Module, loss: Any, data: Any = None, **more: Any) -> list[float]:
    seen = Curve()
    training = trainer(model, arguments(folder, **more), data or tagged(), loss)
    training.add_callback(seen)
    training.train()
    return [*seen.losses, *weights(model)]


def pytorch_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    scores = outputs.logits.movedim(-1, 1)
    return nn.functional.cross_entropy(scores, labels, reduction="sum") / num_items_in_batch


def test_curves_are_those_of_pytorch(tmp_path) -> None:
    assert curve(tmp_path, tagger(), loss_of_tokens) == curve(tmp_path, tagger(), pytorch_loss)


def test_curves_of_flat_scores_are_those_of_the_heads(tmp_path) -> None:
    def flat(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        scores, tags = outputs.logits.view(-1, 5), labels.view(-1)
        return SafeCrossEntropyLoss()(scores, tags, denominator=num_items_in_batch)

    training = Curve()
    by_head = Trainer(tagger(), arguments(tmp_path), train_dataset=tagged(), callbacks=[training])
    by_head.train()
    expected = [*training.losses, *weights(by_head.model)]
    assert curve(tmp_path, tagger(), flat) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_language_models_predict_the_next_token(tmp_path) -> None:
    def language_model() -> GPT2LMHeadModel:
        torch.manual_seed(0)
        dropout = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2, **dropout))

    texts = [{**row, "labels": row["input_ids"]} for row in tagged()]
    expected = curve(tmp_path, language_model(), None, texts)  # the loss of the model itself
    shifted = curve(tmp_path, language_model(), loss_of_next_tokens, texts)
    assert shifted == pytest.approx(expected, rel=1e-3, abs=1e-5)
    unshifted = curve(tmp_path, language_model(), loss_of_tokens, texts)
    assert unshifted[:6] != pytest.approx(expected[:6], rel=1e-3)


def test_without_a_count_it_is_the_mean() -> None:
    model, rows = tagger(), tagged()[:4]
    words, tags = (torch.stack([row[key] for row in rows]) for key in ("input_ids", "labels"))
    found = loss_of_tokens(model(input_ids=words), tags)
    assert torch.equal(found, tokens_last(model(input_ids=words).logits, tags))
    torch.testing.assert_close(found, model(input_ids=words, labels=tags).loss)


def test_accumulated_is_one_large_batch(tmp_path) -> None:
    large = curve(tmp_path, tagger(), loss_of_tokens, batch=12)
    small = curve(tmp_path, tagger(), loss_of_tokens, batch=3, accumulated=4)
    assert small[2:] == pytest.approx(large[2:], rel=1e-4, abs=1e-6)

    def mean_of_means(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return tokens_last(outputs.logits, labels) / 4

    wrong = curve(tmp_path, tagger(), mean_of_means, batch=3, accumulated=4)
    assert wrong[2:] != pytest.approx(large[2:], rel=1e-4, abs=1e-6)


def test_resumed_from_a_checkpoint(tmp_path) -> None:
    whole = curve(tmp_path, tagger(), loss_of_tokens, save_strategy="epoch")
    (first, _) = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    model = tagger()
    again = trainer(model, arguments(tmp_path), tagged())
    again.train(resume_from_checkpoint=str(first))
    assert weights(model) == whole[6:]


def head(outputs: int = 1, **more: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(**TINY, num_labels=outputs, **more)
    return BertForSequenceClassification(config)


def test_a_head_whose_loss_is_built_inside_is_guarded() -> None:
    """`convert` finds no module there; what the head computes by itself the guard watches."""
    words = torch.randint(50, (4, 12))
    model = safeloss.convert(head(outputs=3, problem_type="single_label_classification"))
    with safeloss.guard():
        model(input_ids=words, labels=torch.tensor([0, 2, 1, 1])).loss.backward()
    with safeloss.guard():
        head()(input_ids=words, labels=torch.rand(4)).loss.backward()  # a regression
    several = head(outputs=3, problem_type="regression")
    with pytest.raises(LayoutError), safeloss.guard():
        several(input_ids=words, labels=torch.rand(4, 1))


class Table(Dataset[Any]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.y[index]}


class Regression(nn.Module):
    """A model of one's own, as Trainer takes it."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.loss = nn.Linear(10, 1), loss

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scores = self.layer(x)
        return {"loss": self.loss(scores, labels), "logits": scores}


def test_targets_without_the_axis_of_the_scores(tmp_path) -> None:
    x, y = regression()

    def trained(model: nn.Module, y: Tensor) -> list[float]:
        return curve(tmp_path, model, None, Table(x, y), batch=32)

    right = trained(Regression(nn.MSELoss()), y.view(-1, 1))
    assert trained(Regression(nn.MSELoss()), y) != right
    assert trained(safeloss.convert(Regression(nn.MSELoss())), y) == right


def test_what_does_not_fit_is_refused(tmp_path) -> None:
    short = [{**row, "labels": row["labels"][:-1]} for row in tagged()]
    with pytest.raises(LayoutError):
        curve(tmp_path, tagger(), loss_of_tokens, short)
