"""One seed gives one text: streamed or not, alone or among others, with a cold or a warm prefix."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

MESSAGES = [
    {"role": "system", "content": "You are careful with numbers. " * 12},
    {"role": "user", "content": "What is 47 + 38 - 12?"},
]
OTHERS = [[{"role": "user", "content": f"What is {number} + {number * 3} - 4?"}] for number in range(11, 27)]


def answer(client, messages, seed, *, stream):
    asked = {"model": "pocket", "messages": messages, "seed": seed, "temperature": 1.2, "max_tokens": 120}
    if not stream:
        choice = client.chat.completions.create(**asked).choices[0]
        return choice.message.reasoning_content, choice.message.content, choice.finish_reason
    thinking, content, reason = "", "", None
    for chunk in client.chat.completions.create(**asked, stream=True):
        choice = chunk.choices[0]
        thinking += getattr(choice.delta, "reasoning_content", None) or ""
        content += choice.delta.content or ""
        reason = choice.finish_reason or reason
    return thinking or None, content, reason


@pytest.fixture(scope="module")
def expected(live):
    """From the engine itself, in the order of seeds."""
    sampling = {"temperature": 1.2, "max_tokens": 120}
    found = {}
    for seed in (1, 2):
        said = live.service.model.chat(MESSAGES, seed=seed, **sampling)
        found[seed] = (said.reasoning or None, said.content, said.finish_reason)
    return found


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_crowded", [False, True])
@pytest.mark.parametrize("is_warm", [False, True])
def test_one_seed_gives_one_text(start_live, client, expected, seed, stream, is_crowded, is_warm):
    if not is_warm:
        client = openai.OpenAI(base_url=f"{start_live().url}/v1", api_key="none", max_retries=0)
    if not is_crowded:
        assert answer(client, MESSAGES, seed, stream=stream) == expected[seed]
        return
    with ThreadPoolExecutor(len(OTHERS) + 1) as pool:
        others = [
            pool.submit(answer, client, messages, index, stream=bool(index % 2))
            for index, messages in enumerate(OTHERS)
        ]
        mine = pool.submit(answer, client, MESSAGES, seed, stream=stream)
        assert mine.result() == expected[seed]
        assert all(other.result()[2] for other in others)


def test_a_warm_prefix_is_told_in_the_usage(client):
    asked = {"model": "pocket", "messages": MESSAGES, "max_tokens": 1}
    client.chat.completions.create(**asked)
    usage = client.chat.completions.create(**asked).usage
    assert usage.prompt_cache_hit_tokens == usage.prompt_tokens_details.cached_tokens > 0
    assert usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens == usage.prompt_tokens
