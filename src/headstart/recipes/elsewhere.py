"""What other tools call the fields of a recipe: names that people try first, and ours."""

ELSEWHERE = {
    "lr": "optimizer.lr",
    "lr0": "optimizer.lr",
    "base_lr": "optimizer.lr",
    "max_lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
    "clip_grad": "optimizer.clip_norm",
    "grad_clip": "optimizer.clip_norm",
    "gradient_clip_val": "optimizer.clip_norm",
    "max_grad_norm": "optimizer.clip_norm",
    "opt": "optimizer",
    "optim": "optimizer",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "lr_schedule": "schedule",
    "warmup": "schedule.warmup",
    "warmup_epochs": "schedule.warmup",
    "warmup_ratio": "schedule.warmup",
    "loss": "criterion",
    "loss_fn": "criterion",
    "label_smoothing": "criterion.smoothing",
    "smoothing": "criterion.smoothing",
    "class_weight": "criterion.class_weights",
    "class_weights": "criterion.class_weights",
    "resolution": "backbone.resolution",
    "image_size": "backbone.resolution",
    "img_size": "backbone.resolution",
    "imgsz": "backbone.resolution",
    "input_size": "backbone.resolution",
    "size": "backbone.resolution",
    "model": "backbone",
    "model_name": "backbone",
    "arch": "backbone",
    "architecture": "backbone",
    "network": "backbone",
    "encoder": "backbone",
    "pretrained": "backbone.weights",
    "checkpoint": "backbone.weights",
    "dropout": "head.dropout",
    "drop": "head.dropout",
    "drop_rate": "head.dropout",
    "drop_path": "backbone.drop_path",
    "drop_path_rate": "backbone.drop_path",
    "layer_decay": "freezing.layer_decay",
    "freeze": "freezing",
    "unfreeze": "freezing",
    "frozen_layers": "freezing.blocks",
    "augment": "augmentation",
    "aug": "augmentation",
    "transforms": "augmentation",
    "data_augmentation": "augmentation",
    "aa": "augmentation",
    "cutout": "augmentation.cutout",
    "mixup": "batch_mixing=mixup",
    "mixup_alpha": "batch_mixing.alpha",
    "cutmix": "batch_mixing=cutmix",
    "ema": "averaging=ema",
    "model_ema": "averaging=ema",
    "swa": "averaging=swa",
    "tta": "test_time_flip",
    "crt": "retrain_head",
    "frofa": "feature_flip",
    "bs": "batch_size",
    "batch": "batch_size",
    "batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "epoch": "epochs",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "num_train_epochs": "epochs",
    "random_state": "seed",
    "random_seed": "seed",
    "manual_seed": "seed",
}
"""Our name of a field, a family or a method, by the name that it has elsewhere."""


def same(name: str) -> str:
    """Returns what a name has in common with other ways to write it.

    Example:
        >>> same("Learning-Rate"), same("learningRate")
        ('learningrate', 'learningrate')
    """
    return name.strip().lower().replace("-", "").replace("_", "")


_OURS = {same(name): target for name, target in ELSEWHERE.items()}


def our_name(name: str) -> str:
    """Returns our name of a field that has another one elsewhere; empty if none is known.

    Example:
        >>> our_name("learning_rate"), our_name("imgsz"), our_name("colour")
        ('optimizer.lr', 'backbone.resolution', '')
    """
    return _OURS.get(same(name), "")
