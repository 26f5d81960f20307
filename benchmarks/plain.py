"""The script a user would write without tuner: Optuna, a DataLoader from image files, fp32.

Nothing in it is slowed down on purpose, and nothing is left out that a search needs: every trial trains,
validates with metrics each epoch, follows the learning rate schedule, reports to the study and keeps its
best weights. The U-Net, the loss and the list of files are those of tuner, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import optuna
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tuner.models.unet import unet

Pair = tuple[Path, Path]
Loss = Callable[[Tensor, Tensor], Tensor]
Batches = DataLoader[tuple[Tensor, Tensor]]


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """Images and masks read from files, resized and augmented at every access."""

    def __init__(self, pairs: Sequence[Pair], size: int, augment: bool) -> None:
        self.pairs = list(pairs)
        flip = [A.HorizontalFlip(p=0.5)] if augment else []
        self.transform = A.Compose([A.Resize(size, size), *flip, A.Normalize(), ToTensorV2()])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self.pairs[at]
        image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
        grey = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None, mask_path
        mask = np.asarray(grey > 127, np.float32)
        out = self.transform(image=image, mask=mask)
        return out["image"], out["mask"].unsqueeze(0)


def loader(pairs: Sequence[Pair], size: int, train: bool, batch_size: int = 8) -> Batches:
    return DataLoader(Photographs(pairs, size, train), batch_size=batch_size, shuffle=train, num_workers=2)


class Metrics:
    """Accumulate loss and scores over a pass over the data."""

    def __init__(self) -> None:
        self.loss, self.images = 0.0, 0
        self.tp = self.fp = self.fn = self.tn = 0

    def add(self, loss: Tensor, logits: Tensor, mask: Tensor) -> None:
        predicted, true = logits.detach() > 0, mask > 0.5
        self.loss += loss.item() * len(mask)
        self.images += len(mask)
        self.tp += int((predicted & true).sum().item())
        self.fp += int((predicted & ~true).sum().item())
        self.fn += int((~predicted & true).sum().item())
        self.tn += int((~predicted & ~true).sum().item())

    def result(self) -> dict[str, float]:
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        return {
            "loss": self.loss / self.images,
            "iou": tp / max(tp + fp + fn, 1),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "precision": tp / max(tp + fp, 1),
            "recall": tp / max(tp + fn, 1),
            "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        }


def train_epoch(
    model: nn.Module,
    batches: Batches,
    loss_of: Loss,
    optimizer: torch.optim.Optimizer,
) -> dict[str, float]:
    model.train()
    metrics = Metrics()
    for image, mask in batches:
        optimizer.zero_grad()
        logits = model(image)
        loss = loss_of(logits, mask)
        loss.backward()
        optimizer.step()
        metrics.add(loss, logits, mask)
    return metrics.result()


@torch.no_grad()
def validate(model: nn.Module, batches: Batches, loss_of: Loss) -> dict[str, float]:
    model.eval()
    metrics = Metrics()
    for image, mask in batches:
        logits = model(image)
        metrics.add(loss_of(logits, mask), logits, mask)
    return metrics.result()


def train_trial(
    trial: optuna.Trial, k: int, lr: float, loss_of: Loss, batches: tuple[Batches, Batches], epochs: int,
    folder: Path, is_over: Callable[[float], bool] = lambda iou: False,
) -> float:  # fmt: skip
    """Train a U-Net and return its best validation IoU; `is_over` may end the study after an epoch, by its IoU."""
    model = unet(3, 1, k=k, dropout=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
    best = -1.0
    for epoch in range(1, epochs + 1):
        train_epoch(model, batches[0], loss_of, optimizer)
        val = validate(model, batches[1], loss_of)
        schedule.step(val["loss"])
        if val["iou"] > best:
            best = val["iou"]
            torch.save(model.state_dict(), folder / f"best-{trial.number}.pt")
        trial.report(val["iou"], epoch)
        if is_over(val["iou"]):
            trial.study.stop()
            break
        if trial.should_prune():
            raise optuna.TrialPruned()
    return best


def search(
    train_pairs: Sequence[Pair], val_pairs: Sequence[Pair], *, size: int, k: int, lr: float, epochs: int,
    seed: int, folder: Path, num_trials: int = 1,
) -> float:  # fmt: skip
    """Run a study of `num_trials` trials and return the best validation IoU. Each parameter has one value."""

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(seed)
        rate = trial.suggest_float("lr", lr, lr)
        width = trial.suggest_int("k", k, k)
        batches = loader(train_pairs, size, True), loader(val_pairs, size, False)
        return train_trial(trial, width, rate, nn.BCEWithLogitsLoss(), batches, epochs, folder)

    study = optuna.create_study(
        direction="maximize",
        storage=f"sqlite:///{folder / 'plain.db'}",
        pruner=optuna.pruners.NopPruner(),  # both sides train every epoch
    )
    study.optimize(objective, n_trials=num_trials)
    return study.best_value
