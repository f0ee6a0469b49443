"""Decisions for tests: a list of answers by kind, 0 once they are used up."""


class Choices:
    def __init__(self, **answers):
        self.answers = {kind.replace("_", "-"): list(values) for kind, values in answers.items()}
        self.asked = []
        self.is_quiet = False

    def pick(self, n, kind, target=""):
        self.asked.append((kind, target, n))
        left = self.answers.get(kind)
        return min(left.pop(0), n - 1) if left and not self.is_quiet else 0

    def enabled(self, kind):
        return kind in self.answers

    @property
    def deviations(self):
        return ()

    def quiet(self):
        self.is_quiet = True
