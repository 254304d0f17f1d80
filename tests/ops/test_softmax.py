"""Losses in few passes against their plain definitions, with gradients, on every platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.platform import traced_for
from stg_jax.ops.softmax import kl_divergence, log_sum_exp, logit_of

ID_N = np.array([0, 6, 3])


def logits(seed):
    return jax.random.normal(jax.random.key(seed), (3, 7)) * 4


def plain_kl(left_NV, right_NV):
    log_p_NV, log_q_NV = jax.nn.log_softmax(left_NV), jax.nn.log_softmax(right_NV)
    return jnp.sum(jnp.exp(log_p_NV) * (log_p_NV - log_q_NV), -1)


CASES = {
    'log_sum_exp': (log_sum_exp, lambda x: jax.nn.logsumexp(x, -1), (logits(0),)),
    'logit_of': (lambda x: logit_of(x, ID_N), lambda x: x[np.arange(3), ID_N], (logits(0),)),
    'kl_divergence': (kl_divergence, plain_kl, (logits(0), logits(1))),
}


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize(('tuned', 'plain', 'arguments'), CASES.values(), ids=CASES)
def test_value_and_gradient_are_those_of_the_plain_definition(platform, tuned, plain, arguments):
    with traced_for(platform):
        found, pull_back = jax.vjp(tuned, *arguments)
        found = found, pull_back(jnp.arange(1.0, 4.0))
    expected, pull_back = jax.vjp(plain, *arguments)
    expected = expected, pull_back(jnp.arange(1.0, 4.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


def test_logits_of_a_thousand_do_not_overflow():
    huge_NV = jnp.array([[1000.0, 999.0], [-1000.0, -1000.0]])
    np.testing.assert_allclose(log_sum_exp(huge_NV), [1000.3133, -999.3069], rtol=1e-6)
    np.testing.assert_allclose(kl_divergence(huge_NV, huge_NV), [0, 0], atol=1e-6)
