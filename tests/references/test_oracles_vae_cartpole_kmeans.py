"""Three references against libraries that were written by others."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestCentroid
from torch.distributions import Normal, kl_divergence

from bughunt.references.kmeans_pp import task as kmeans_task
from bughunt.references.kmeans_pp import train as kmeans
from bughunt.references.reinforce_cartpole import task as cartpole_task
from bughunt.references.reinforce_cartpole import train as cartpole
from bughunt.references.vae_digits import train as vae


@pytest.fixture
def gym_cart():
    env = gymnasium.make("CartPole-v1").unwrapped
    assert isinstance(env, CartPoleEnv)
    yield env
    env.close()


def _walk(gym_cart, seed, steps=60):
    """States, actions, and what Gymnasium says of each step, up to the first fall."""
    rng = np.random.default_rng(seed)
    gym_cart.reset(seed=seed)
    for _ in range(steps):
        before = np.array(gym_cart.state, dtype=np.float64)
        action = int(rng.integers(2))
        _, _, terminated, _, _ = gym_cart.step(action)
        yield before, action, np.array(gym_cart.state, dtype=np.float64), terminated
        if terminated:
            return


@pytest.mark.parametrize("seed", range(5))
def test_both_carts_move_like_the_one_in_gymnasium(gym_cart, seed):
    for before, action, after, terminated in _walk(gym_cart, seed):
        state, actions = torch.tensor(before)[None], torch.tensor([action])
        found = cartpole.physics(state, actions)
        assert np.allclose(found[0], after, atol=1e-6)
        assert np.allclose(cartpole_task.tick(state, actions)[0], after, atol=1e-9)
        assert cartpole.fallen(found).item() == terminated
        assert cartpole_task.upright(found).item() == (not terminated)


def test_the_divergence_is_that_of_torch_distributions():
    mu, logvar = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0))
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(vae.kl(mu, logvar), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_inertia_reaches_that_of_scikit_learn(seed):
    data = kmeans_task.TASK.data(seed).train
    cfg = kmeans.Config()
    model = kmeans.build(cfg)
    *_, final = kmeans.train(model, data, cfg, np.random.default_rng(seed))
    scaled = kmeans.standardise(model, data)
    oracle = KMeans(cfg.clusters, n_init=20, random_state=0).fit(scaled)
    assert final <= 1.02 * oracle.inertia_
    assert adjusted_rand_score(kmeans.predict(model, data), oracle.labels_) > 0.95


def test_one_iteration_is_the_one_of_scikit_learn():
    points = np.random.default_rng(1).normal(size=(200, 5))
    labels = euclidean_distances(points, points[:7]).argmin(axis=1)
    oracle = NearestCentroid().fit(points, labels)
    assert np.allclose(kmeans.lloyd(points, points[:7]), oracle.centroids_)


def test_distances_are_those_of_scikit_learn():
    points, centroids = np.random.default_rng(2).normal(size=(2, 30, 5))
    expected = euclidean_distances(points, centroids, squared=True)
    assert np.allclose(kmeans.squared_distances(points, centroids), expected)


@pytest.mark.parametrize("groups", [1, 2, 5, 40])
def test_the_rand_index_is_that_of_scikit_learn(groups):
    one, other = np.random.default_rng(groups).integers(groups, size=(2, 80))
    for pair in ((one, other), (one, one), (one, np.zeros_like(one))):
        assert kmeans_task.adjusted_rand(*pair) == pytest.approx(adjusted_rand_score(*pair))
