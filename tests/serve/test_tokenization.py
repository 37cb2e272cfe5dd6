"""The routes of the tokenizer."""


def post(http, path, **body):
    return http.post(path, json=body)


def test_text_to_tokens_and_back(http, live):
    tokenizer = live.service.model.tokenizer
    for text in ("What is 2 + 3?", "schön 🌞", "", "<｜User｜>hi"):
        found = post(http, "/tokenize", prompt=text, add_special_tokens=False).json()
        assert found["count"] == len(found["tokens"])
        assert post(http, "/detokenize", tokens=found["tokens"]).json() == {"prompt": text}
    assert post(http, "/tokenize", prompt="hi").json()["tokens"][0] == tokenizer.bos_id
    (eos,) = post(http, "/tokenize", prompt="<｜end▁of▁sentence｜>", add_special_tokens=False).json()[
        "tokens"
    ]
    assert eos == tokenizer.eos_id
    spelled = post(http, "/tokenize", prompt="<｜end▁of▁sentence｜>", parse_special=False).json()
    assert eos not in spelled["tokens"]


def test_a_conversation_to_the_tokens_of_its_prompt(http, live):
    messages = [{"role": "user", "content": "What is 2 + 3?"}]
    found = post(http, "/tokenize", messages=messages, return_token_strs=True).json()
    assert found["tokens"] == live.service.model.chat_format.render(messages).ids
    assert len(found["token_strs"]) == found["count"]
    assert found["max_model_len"] == 131_072


def test_what_is_no_token_or_no_text_is_refused(http):
    assert post(http, "/detokenize", tokens=[1024]).json()["error"]["param"] == "tokens"
    assert post(http, "/detokenize", tokens=[-1]).json()["error"]["param"] == "tokens[0]"
    assert post(http, "/tokenize").json()["error"]["param"] == "prompt"


def test_what_a_harness_asks_of_a_tokenizer(http):
    info = http.get("/tokenizer_info").json()
    assert info["eos_token"] == "<｜end▁of▁sentence｜>"
    assert info["bos_token"] == "<｜begin▁of▁sentence｜>"
    assert "add_generation_prompt" in info["chat_template"]


def test_tools_are_part_of_a_prompt(http):
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    asked = {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "tools": [tool]}
    counted = post(http, "/tokenize", **asked).json()["count"]
    assert counted > post(http, "/tokenize", messages=asked["messages"]).json()["count"]
    answer = post(http, "/v1/chat/completions", **asked, max_tokens=1).json()
    assert answer["usage"]["prompt_tokens"] == counted
    assert post(http, "/tokenize", **{**asked, "tools": [tool] * 129}).json()["error"]["param"] == "tools"
