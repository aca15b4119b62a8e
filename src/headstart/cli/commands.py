"""The commands: the module that declares each, and what it does.

`headstart --help` and the completion of names show this list, for which no command is imported.
"""

COMMANDS = {
    "check": ("explore", "Find problems of a data set: broken files, duplicates, leaks, unusual "
              "classes."),
    "suspects": ("explore", "Find suspicious images: possible label errors, copies and outliers."),
    "backbones": ("explore", "List pretrained backbones, where their weights are, and which of "
                  "them a search looks at."),
    "methods": ("explore", "Describe the methods: what they do, their source, and when they help."),
    "show": ("explore", "Draw augmentations, mixing, schedules and activations from your own "
             "images."),
    "fit": ("fit", "Search, train and test the best classifier that the budget allows."),
    "resume": ("fit", "Resume an interrupted search."),
    "compare": ("fit", "Measure the effect of each method: add one at a time, and leave one out."),
    "benefit": ("fit", "Measure the benefit of pretrained weights over training from scratch, and "
                "of more labels."),
    "export": ("export", "Write the classifier for another runtime, compared with the sealed "
               "test."),
    "leaderboard": ("runs", "Rank the recipes that a search tried."),
    "report": ("runs", "Draw the report of a run again from its folder."),
    "diff": ("runs", "Show the differences between two runs, and test which is more accurate."),
    "embed": ("runs", "Write the embeddings of images: vectors that are close for similar "
              "images."),
    "similar": ("runs", "Find the training images that are most similar to an image."),
    "predict": ("predict", "Classify images with calibrated probabilities."),
    "label-next": ("labelling", "Choose the unlabelled images that are worth a label next, and "
                   "label them on a page."),
    "serve": ("serving", "Serve a classifier over HTTP, with a page to try it."),
}  # fmt: skip
"""Module in `headstart.cli` and description of each command, in the order of the list."""
