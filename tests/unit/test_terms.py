"""Every term against a plain computation of its formula, its exact properties, and what it may load."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import ClipLoss
from torch.distributions import Categorical, kl_divergence

from surefoot import references
from surefoot.clip import Classifier, load_clip, load_tokenizer, zero_shot_classifier
from surefoot.method_entries import Head, Recipe
from surefoot.objective import TERMS, Context, Objective
from surefoot.references import References
from surefoot.train import fit
from tests.terms import FAST, SEEDS, SMALL, batch, normal, value
from tests.tiny import CLASSES, TEMPLATES, Bench, clone, moved


def on_logits(logits: torch.Tensor, labels: torch.Tensor) -> Context:
    """A context in which the logits are given."""
    return Context(SimpleNamespace(classify=lambda features: logits), torch.zeros(len(labels), 4), labels)


@pytest.fixture
def tuned(classifier: Classifier, bench: Bench) -> Classifier:
    """A classifier whose tower and head have moved."""
    other = zero_shot_classifier(bench.model, bench.head)
    other.load_state_dict(moved(clone(classifier.state_dict()), ("image.", "head.")))
    return other


# Terms of the logits


@FAST
@given(SEEDS, st.integers(1, 9), st.integers(2, 7), st.sampled_from([0.5, 5, 50]))
def test_hinge_is_torchs_margin_loss_summed_over_the_classes(seed: int, images: int, classes: int, size: float) -> None:
    """Torch averages over all classes, the right one included."""
    logits, labels = normal(seed, images, classes, size=size), torch.arange(images) % classes
    expected = classes * F.multi_margin_loss(logits, labels)
    torch.testing.assert_close(TERMS["hinge"](on_logits(logits, labels)), expected, rtol=1e-5, atol=1e-6)


def test_hinge_by_hand() -> None:
    """max(0, 1 + 0.5 - 2) + max(0, 1 + 3 - 2) = 2, and max(0, 1 + 1 - 1) + max(0, 1 - 4 - 1) = 1."""
    logits = torch.tensor([[2.0, 0.5, 3.0], [1.0, 1.0, -4.0]])
    assert TERMS["hinge"](on_logits(logits, torch.tensor([0, 1]))).item() == pytest.approx((2 + 1) / 2)


def test_hinge_is_zero_beyond_the_margin() -> None:
    logits = torch.tensor([[3.0, 1.9, -5.0]], requires_grad=True)
    loss = TERMS["hinge"](on_logits(logits, torch.tensor([0])))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@FAST
@given(SEEDS, st.integers(1, 9), st.integers(2, 7), st.sampled_from([0.5, 5, 50]))
def test_entropy_is_that_of_the_categorical_distribution(seed: int, images: int, classes: int, size: float) -> None:
    logits = normal(seed, images, classes, size=size)
    found = TERMS["entropy"](on_logits(logits, torch.zeros(images, dtype=torch.long)))
    torch.testing.assert_close(found, Categorical(logits=logits).entropy().mean(), rtol=1e-4, atol=1e-5)


def test_entropy_is_in_nats() -> None:
    assert TERMS["entropy"](on_logits(torch.zeros(4, 5), torch.zeros(4, dtype=torch.long))).item() == pytest.approx(
        np.log(5)
    )


@FAST
@given(SEEDS, st.integers(1, 9), st.integers(2, 5))
def test_dcm_is_the_entropy_of_the_wrong_images_over_all_images(seed: int, images: int, classes: int) -> None:
    logits, labels = normal(seed, images, classes, size=2), torch.arange(images) % classes
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        if row.argmax() != label:
            expected += Categorical(logits=row).entropy().item() / images
    assert TERMS["dcm"](on_logits(logits, labels)).item() == pytest.approx(expected, abs=1e-5)


def test_the_indicator_of_dcm_carries_no_gradient() -> None:
    """Right images have none at all, wrong ones that of their entropy."""
    logits, labels = normal(0, 8, 3, size=2).requires_grad_(), torch.arange(8) % 3
    TERMS["dcm"](on_logits(logits, labels)).backward()
    wrong = logits.argmax(1) != labels
    assert wrong.any() and not wrong.all()
    copy = logits.detach().clone().requires_grad_()
    (Categorical(logits=copy).entropy()[wrong].sum() / 8).backward()
    torch.testing.assert_close(logits.grad, copy.grad)
    assert not logits.grad[~wrong].any() and logits.grad[wrong].any()


# FLYP


@FAST
@given(SEEDS, st.integers(1, 6), st.sampled_from([1.0, 14.0, 100.0]))
def test_flyp_is_open_clips_loss(seed: int, images: int, scale: float) -> None:
    sides = [F.normalize(normal(seed + i, images, 8), dim=-1).requires_grad_() for i in (0, 1)]
    context = Context(
        SimpleNamespace(logit_scale=torch.tensor(scale).log()), sides[0], torch.zeros(images, dtype=torch.long)
    )
    context.__dict__["caption_features"] = sides[1]
    loss, expected = TERMS["flyp"](context), ClipLoss()(*sides, torch.tensor(scale).log().exp())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for side, other in zip(sides, torch.autograd.grad(expected, sides), strict=True):
        torch.testing.assert_close(torch.autograd.grad(loss, side, retain_graph=True)[0], other, rtol=1e-4, atol=1e-5)


def test_another_image_of_the_same_class_is_a_negative_in_flyp(
    classifier: Classifier, bench: Bench, known: References
) -> None:
    """With one caption for all, no image can tell its own: the cross-entropy over captions is log B."""
    known.__dict__["tokens"] = known.tokens[:, :1]
    images = batch(bench)[0]
    context = Context(classifier, images, torch.zeros(len(images), dtype=torch.long), references=known)
    products = classifier.logit_scale.exp() * context.features @ context.caption_features.T
    other = F.cross_entropy(products.T, torch.arange(len(images)))
    assert TERMS["flyp"](context).item() == pytest.approx((np.log(len(images)) + other.item()) / 2, rel=1e-5)


@torch.no_grad()
def test_flyp_on_images_equals_open_clips_forward_pass(classifier: Classifier, bench: Bench, known: References) -> None:
    images, labels = batch(bench)
    context = Context(classifier, images, labels, references=known, step=3)
    image, text, scale = load_clip(bench.model)(images, known.caption_tokens(labels, 3))[:3]
    torch.testing.assert_close(TERMS["flyp"](context), ClipLoss()(image, text, scale), rtol=1e-5, atol=1e-5)


def test_flyp_takes_the_text_towers_scale_where_the_head_holds_it(bench: Bench, known: References) -> None:
    outside, inside = (zero_shot_classifier(bench.model, bench.head, Head(scaled=s)) for s in (False, True))
    assert inside.logit_scale is None
    both = [value("flyp", c, bench, known).item() for c in (outside, inside)]
    assert both[0] == pytest.approx(both[1], rel=1e-6)
    with torch.no_grad():
        known.text.clip.logit_scale += 1
        outside.logit_scale -= 1
    assert value("flyp", inside, bench, known).item() != pytest.approx(both[1], rel=1e-3)
    assert value("flyp", outside, bench, known).item() != pytest.approx(both[0], rel=1e-3)


def test_captions_have_the_class_of_the_label_in_a_known_template(bench: Bench, known: References) -> None:
    tokenize, labels = load_tokenizer(bench.model), torch.arange(60) % 3
    known_captions = {
        tuple(tokenize([template.format(name)])[0].tolist()): (label, number)
        for label, name in enumerate(CLASSES)
        for number, template in enumerate(TEMPLATES)
    }
    drawn = [known_captions[tuple(row.tolist())] for row in known.caption_tokens(labels, 0)]
    assert [label for label, _ in drawn] == labels.tolist()
    assert {number for _, number in drawn} == set(range(len(TEMPLATES))), "images of a batch draw their own template"


def test_captions_are_fixed_by_seed_and_step(bench: Bench) -> None:
    labels = torch.arange(60) % 3
    one, again, other = (bench.references(SMALL, seed).caption_tokens for seed in (0, 0, 1))
    assert torch.equal(one(labels, 4), again(labels, 4))
    assert not torch.equal(one(labels, 4), one(labels, 5))
    assert not torch.equal(one(labels, 4), other(labels, 4))


# Lipsum-FT


def random_features(bench: Bench, known: References, step: int) -> torch.Tensor:
    """Unit-norm features of a step's random texts, by open_clip's own tower on padded texts."""
    with torch.no_grad():
        return load_clip(bench.model).encode_text(padded(known, step), normalize=True)


def padded(known: References, step: int) -> torch.Tensor:
    """Token ids of a step's random texts, as the library drew them, behind which zeros fill the context."""
    seen = []
    text, encode = known.text, known.text.encode
    text.encode = lambda tokens: seen.append(tokens) or encode(tokens)
    known.random_texts(step)
    del text.encode
    return F.pad(seen[0], (0, text.clip.context_length - seen[0].shape[1]))


@torch.no_grad()
def test_lipsum_is_a_plain_loop(classifier: Classifier, tuned: Classifier, bench: Bench, known: References) -> None:
    texts, images = random_features(bench, known, 2), batch(bench)[0]
    scale, total = float(load_clip(bench.model).logit_scale.exp()), 0.0
    assert texts.shape == (5, 16)
    for image in images:
        now, before = (c.image(image[None])[0] for c in (tuned, classifier))
        now, before = now / now.norm(), before / before.norm()
        for text in texts:
            total += (scale * float(now @ text) - scale * float(before @ text)) ** 2
    expected = total / (2 * 5) / len(images)
    assert value("lipsum", tuned, bench, known, 2).item() == pytest.approx(expected, rel=1e-4)
    assert expected > 0.01


def test_lipsum_is_exactly_zero_at_step_0_and_so_is_its_gradient(
    classifier: Classifier, bench: Bench, known: References
) -> None:
    """The whole tower and head are in training, so the student's pass keeps a graph and the teacher's does not."""
    for step in range(3):
        loss = value("lipsum", classifier, bench, known, step)
        loss.backward()
        assert loss.item() == 0
    assert classifier.image.conv1.weight.grad is not None
    assert not any(p.grad.any() for p in classifier.parameters() if p.grad is not None)


@FAST
@given(SEEDS)
def test_lipsum_is_zero_only_without_a_gap_and_needs_neither_labels_nor_head(seed: int) -> None:
    """It sees unit-norm features alone, and a gap across all texts does not count."""
    texts = F.normalize(normal(seed, 5, 8), dim=-1)
    before, now = (F.normalize(normal(seed + i, 4, 8), dim=-1) for i in (1, 2))
    assert TERMS["lipsum"](on_features(now, before, texts)).item() > 0
    assert TERMS["lipsum"](on_features(before, before, texts)).item() == 0


def on_features(now: torch.Tensor, before: torch.Tensor, texts: torch.Tensor, scale: float = 14.0) -> Context:
    """A context in which features of images and texts are given."""
    known = SimpleNamespace(random_texts=lambda step: texts, text=SimpleNamespace(pretrained_scale=scale))
    context = Context(SimpleNamespace(), now, None, references=known)
    context.__dict__["zero_shot_features"] = before
    return context


@FAST
@given(SEEDS, st.permutations(range(6)), st.floats(0.5, 8))
def test_lipsum_forgets_the_order_of_texts_and_grows_with_the_square_of_the_scale(
    seed: int, order: list[int], factor: float
) -> None:
    texts = F.normalize(normal(seed, 6, 8), dim=-1)
    before, now = (F.normalize(normal(seed + i, 4, 8), dim=-1) for i in (1, 2))
    loss = TERMS["lipsum"](on_features(now, before, texts)).item()
    assert TERMS["lipsum"](on_features(now, before, texts[order])).item() == pytest.approx(loss, rel=1e-5)
    scaled = TERMS["lipsum"](on_features(now, before, texts, 14.0 * factor)).item()
    assert scaled == pytest.approx(factor**2 * loss, rel=1e-5)
    twice = TERMS["lipsum"](on_features(now, before, texts.repeat(2, 1))).item()
    assert twice == pytest.approx(loss, rel=1e-5), "a mean over the texts, so their number does not matter"


def test_lipsum_keeps_the_pretrained_scale_when_the_classifiers_own_is_trained(
    tuned: Classifier, bench: Bench, known: References
) -> None:
    before = value("lipsum", tuned, bench, known).item()
    with torch.no_grad():
        tuned.logit_scale += 1
        known.text.clip.logit_scale += 1
    assert value("lipsum", tuned, bench, known).item() == before


def test_two_steps_draw_different_texts_and_one_step_the_same(bench: Bench) -> None:
    one, again, other = (bench.references(SMALL, seed) for seed in (0, 0, 1))
    assert torch.equal(padded(one, 4), padded(again, 4))
    drawn = [padded(known, step) for known, step in ((one, 4), (one, 5), (other, 4))]
    rows = {tuple(row.tolist()) for tokens in drawn for row in tokens}
    assert len(rows) == 15, "no text is drawn twice"
    assert not one.random_texts(4).requires_grad


# Distillation and contexts


@torch.no_grad()
def test_kd_is_the_divergence_of_categorical_distributions(
    classifier: Classifier, tuned: Classifier, bench: Bench, known: References
) -> None:
    images = batch(bench)[0]
    teacher, student = (Categorical(logits=c(images) / 3) for c in (classifier, tuned))
    expected = 9 * kl_divergence(teacher, student).mean()
    torch.testing.assert_close(value("kd", tuned, bench, known), expected, rtol=1e-4, atol=1e-5)
    assert expected > 0.01 and abs(expected - 9 * kl_divergence(student, teacher).mean()) > 1e-3 * expected


@torch.no_grad()
def test_carft_is_the_divergence_over_contexts(
    classifier: Classifier, tuned: Classifier, bench: Bench, known: References
) -> None:
    """Context rows by loops over templates and classes: normalise, mean over the classes, normalise."""
    clip, tokenize, rows = load_clip(bench.model), load_tokenizer(bench.model), []
    for template in TEMPLATES:
        embedded = [clip.encode_text(tokenize([template.format(name)]))[0] for name in CLASSES]
        mean = sum(e / e.norm() for e in embedded) / len(embedded)
        rows.append(mean / mean.norm())
    contexts = torch.stack(rows)
    torch.testing.assert_close(known.contexts, contexts, rtol=1e-5, atol=1e-6)
    images, scale = batch(bench)[0], clip.logit_scale.exp() / 2
    teacher, student = (Categorical(logits=scale * c.encode(images) @ contexts.T) for c in (classifier, tuned))
    expected = kl_divergence(teacher, student).mean()
    torch.testing.assert_close(value("carft", tuned, bench, known), expected, rtol=1e-4, atol=1e-6)
    assert expected > 1e-4 and abs(expected - kl_divergence(student, teacher).mean()) > 1e-4 * expected


@torch.no_grad()
def test_a_task_may_name_contexts_of_its_own(bench: Bench, known: References) -> None:
    """They replace the templates in CAR-FT, and in nothing else."""
    own = bench.references(SMALL)
    own.task = replace(own.task, contexts=(TEMPLATES[2], TEMPLATES[0]))
    torch.testing.assert_close(own.contexts, known.contexts[[2, 0]], rtol=1e-5, atol=1e-6)
    assert torch.equal(own.tokens, known.tokens)


@pytest.mark.parametrize("term", ["kd", "carft"])
def test_divergences_are_exactly_zero_at_step_0(
    term: str, classifier: Classifier, bench: Bench, known: References
) -> None:
    loss = value(term, classifier, bench, known)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad.abs().max() < 1e-6 for p in classifier.parameters() if p.grad is not None)


@pytest.mark.parametrize("convention", [Head(scaled=True), Head(bias=True), Head(scaled=True, bias=True)])
@pytest.mark.parametrize("term", ["kd", "carft", "lipsum"])
def test_comparisons_with_the_zero_shot_model_vanish_at_step_0_in_every_convention(
    term: str, convention: Head, bench: Bench, known: References
) -> None:
    classifier = zero_shot_classifier(bench.model, bench.head, convention)
    assert value(term, classifier, bench, known).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("term", ["kd", "carft", "lipsum"])
def test_only_the_student_has_gradients(term: str, tuned: Classifier, bench: Bench, known: References) -> None:
    value(term, tuned, bench, known).backward()
    assert tuned.image.conv1.weight.grad.any()
    frozen = [*known.zero_shot.parameters(), *known.__dict__.get("text", torch.nn.Module()).parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)


# What is loaded and computed


@pytest.mark.parametrize(
    ("objective", "text", "zero_shot"),
    [
        (["ce"], 0, 0),
        (["ce", "hinge", "entropy", "dcm", "l1zero", "l2zero", "l1init", "l2init"], 0, 0),
        (["flyp"], 1, 0),
        (["ce", "kd"], 0, 1),
        (["ce", "lipsum"], 1, 1),
        (["ce", "carft"], 1, 1),
        (["ce", "kd", "lipsum", "carft", "flyp"], 1, 1),
    ],
)
def test_a_run_loads_what_its_terms_need_and_once(
    classifier: Classifier,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    objective: list[str],
    text: int,
    zero_shot: int,
) -> None:
    loaded = {"load_clip": 0, "zero_shot_classifier": 0}
    for name in loaded:

        def counted(*args: object, name: str = name, real: object = getattr(references, name)) -> object:
            loaded[name] += 1
            return real(*args)

        monkeypatch.setattr(references, name, counted)
    recipe = Recipe(batch_size=16, epochs=2, learning_rate=1e-3)
    options = SMALL.options.model_dump()
    fit(
        classifier,
        bench.run({"train": ["image"], "objective": dict.fromkeys(objective, 1), "options": options}, recipe),
    )
    assert loaded == {"load_clip": text, "zero_shot_classifier": zero_shot}


def test_terms_of_one_step_share_their_forward_passes(
    tuned: Classifier, bench: Bench, known: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    encode, encode_text = Classifier.encode, type(known.text).encode
    monkeypatch.setattr(Classifier, "encode", lambda self, x: passes.append(self) or encode(self, x))
    monkeypatch.setattr(type(known.text), "encode", lambda self, x: passes.append(len(x)) or encode_text(self, x))
    context = Context(tuned, *batch(bench), references=known)
    Objective(dict.fromkeys(["ce", "hinge", "entropy", "dcm", "kd", "lipsum", "carft", "flyp"], 1.0))(context)
    assert [p for p in passes if isinstance(p, Classifier)] in ([tuned, known.zero_shot], [known.zero_shot, tuned])
    texts = sorted(p for p in passes if isinstance(p, int))
    assert texts == sorted([10, 5, *[len(TEMPLATES)] * len(CLASSES)]), "captions, random texts, contexts per class"


def test_the_zero_shot_model_sees_the_changed_images_of_the_step(classifier: Classifier, bench: Bench) -> None:
    """At step 0 a run on changed images compares like with like, so its first epoch of nothing is zero throughout."""
    changes = {"rotate": 20, "scale": 0.2, "shift": 0.1, "mirror": 0.5}
    recipe = Recipe(batch_size=8, epochs=2, learning_rate=1e-30, weight_decay=0, augmentation=changes)
    training = {"train": ["image", "head"], "objective": {"kd": 1, "lipsum": 1, "carft": 1, "ce": 0}}
    history = fit(classifier, bench.run(training | {"options": SMALL.options.model_dump()}, recipe))
    assert all(epoch[term] == 0 for epoch in history.terms for term in ("kd", "lipsum", "carft"))
