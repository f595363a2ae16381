"""Priors of whole poses: worked by hand, differentiated, and read from files of the formats that users have."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import InputError
from core.transforms import so3_exp, so3_log
from fitting.pose_density import EncodedDensity, GaussianDensity, MixtureDensity, PoseDensity
from fitting.pose_density_files import read_pose_density

NUM = 23


def covariance(rng: np.random.Generator, n: int = 3 * NUM) -> np.ndarray:
    A = rng.normal(0, 0.1, (n, n))
    return A @ A.T + 0.05 * np.eye(n)


def mixture(rng: np.random.Generator) -> MixtureDensity:
    covariances = np.stack([covariance(rng) for _ in range(3)])
    return MixtureDensity(np.array([0.5, 0.3, 0.2]), rng.normal(0, 0.3, (3, 3 * NUM)), covariances)


class Encoder(nn.Module):
    """The layers of VPoser V02_05's encoder, small and with random weights."""

    def __init__(self, hidden: int = 16, code: int = 5) -> None:
        super().__init__()
        mean = nn.Module()
        mean.mu = nn.Linear(hidden, code)
        layers = [
            nn.Flatten(), nn.BatchNorm1d(63), nn.Linear(63, hidden), nn.LeakyReLU(), nn.BatchNorm1d(hidden),
            nn.Dropout(0.1), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), mean,
        ]  # fmt: skip
        self.encoder_net = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.encoder_net[:-1]:
            x = layer(x)
        return self.encoder_net[-1].mu(x)


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    network = Encoder()
    for norm in (network.encoder_net[1], network.encoder_net[4]):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.normal_(norm.weight, 1.0, 0.2)
        nn.init.normal_(norm.bias, 0.0, 0.2)
    return network.eval()


def saved_encoder(path: Path) -> Encoder:
    network = encoder()
    torch.save({"state_dict": {f"vp_model.{k}": v for k, v in network.state_dict().items()}}, path)
    return network


def check_derivatives(density: PoseDensity, R: np.ndarray, share: np.ndarray) -> None:
    term = density.term(R, share)
    for joint, axis in ((0, 0), (3, 2), (10, 1), (R.shape[1] - 1, 0)):
        step = np.zeros((*R.shape[:2], 3))
        step[1, joint, axis] = 1e-6
        plus, minus = (density.term(R @ so3_exp(s * step), share).cost for s in (1, -1))
        assert term.gradient[1, 3 * joint + axis] == pytest.approx((plus - minus) / 2e-6, rel=1e-4, abs=1e-5)
    assert np.linalg.eigvalsh(term.hessian).min() > -1e-9


@pytest.mark.parametrize("joints", [NUM, 21])
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "vposer"])
def test_they_differentiate(rng: np.random.Generator, kind: str, joints: int, tmp_path: Path) -> None:
    if kind == "vposer":
        saved_encoder(tmp_path / "v.ckpt")
        density: PoseDensity = read_pose_density(tmp_path / "v.ckpt")
    else:
        density = mixture(rng) if kind == "mixture" else GaussianDensity(rng.normal(0, 0.2, 69), covariance(rng))
    R = so3_exp(rng.normal(0, 0.5, (4, joints, 3)))
    check_derivatives(density, R, rng.uniform(0.3, 1.0, 3 * joints))


def test_gaussian_worked_by_hand() -> None:
    """Two deviations, of two sigma and of one, the second counting half."""
    sigma = np.full(3 * NUM, 0.1)
    density = GaussianDensity(np.zeros(3 * NUM), np.diag(sigma**2))
    vector = np.zeros((1, NUM, 3))
    vector[0, 0, 0], vector[0, 4, 1] = 0.2, -0.1
    share = np.ones(3 * NUM)
    share[3 * 4 + 1] = 0.5
    assert density.term(so3_exp(vector), share).cost == pytest.approx(0.5 * (2**2 + (0.5 * 1) ** 2))
    np.testing.assert_allclose(density.sigma, sigma)


def test_of_a_mixture_the_likeliest_part_counts(rng: np.random.Generator) -> None:
    means = np.stack([np.zeros(69), np.full(69, 0.5)])
    density = MixtureDensity(np.array([0.7, 0.3]), means, np.stack([0.04 * np.eye(69)] * 2))
    R = so3_exp(np.stack([means[0], means[1]]).reshape(2, NUM, 3))
    one = np.ones(69)
    assert density.term(R[:1], one).cost == pytest.approx(0.0, abs=1e-12)
    assert density.term(R[1:], one).cost == pytest.approx(np.log(0.7 / 0.3))  # rarer, by so much
    np.testing.assert_allclose(density.sigma**2, 0.04 + 0.7 * 0.3 * 0.25)


def test_codes_are_those_of_the_network(rng: np.random.Generator, tmp_path: Path) -> None:
    network = saved_encoder(tmp_path / "v.ckpt")
    density = read_pose_density(tmp_path / "v.ckpt")
    assert isinstance(density, EncodedDensity)
    vector = so3_log(so3_exp(rng.normal(0, 0.6, (5, 21, 3)))).reshape(5, 63)
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(vector)).numpy()
    np.testing.assert_allclose(density.encoded(vector)[0], expected, atol=1e-5)


def test_smplifys_pickle_and_npz(rng: np.random.Generator, tmp_path: Path) -> None:
    truth = mixture(rng)
    content = {"weights": truth.weights, "means": truth.means, "covars": truth.covariances}
    with (tmp_path / "gmm_08.pkl").open("wb") as stream:
        pickle.dump(content, stream, protocol=2)
    np.savez(tmp_path / "gmm.npz", **content)
    for name in ("gmm_08.pkl", "gmm.npz"):
        density = read_pose_density(tmp_path / name)
        assert isinstance(density, MixtureDensity)
        np.testing.assert_allclose(density.means, truth.means)
        np.testing.assert_allclose(density.covariances, truth.covariances)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def test_what_is_no_prior_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    truth = mixture(rng)
    content = {"weights": truth.weights, "means": truth.means[:, :60], "covars": truth.covariances}
    np.savez(tmp_path / "short.npz", **content)
    np.savez(tmp_path / "none.npz", **{k: content[k] for k in ("weights", "means")})
    np.savez(tmp_path / "flat.npz", weights=truth.weights, means=truth.means, covars=0 * truth.covariances)
    torch.save({"state_dict": {"x": torch.zeros(3)}}, tmp_path / "other.ckpt")
    for name in ("evil.pkl", "evil.ckpt"):
        (tmp_path / name).write_bytes(pickle.dumps(_Evil()))
    (tmp_path / "a.txt").write_text("no")
    for name, said in (
        ("short.npz", r"'means' has the shape \(3, 60\)"), ("none.npz", "lacks 'covars'"),
        ("flat.npz", "positive definite"), ("other.ckpt", "VPoser's encoder"),
        ("evil.pkl", "exec"), ("evil.ckpt", "no file of tensors"),
        ("a.txt", "not '.txt'"), ("missing.npz", "no such file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            read_pose_density(tmp_path / name)
