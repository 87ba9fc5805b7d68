use std::time::{Duration, Instant};

use serde_json::{Map, json};

use super::*;

fn recorded() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../testdata/chats.json")).unwrap()
}

fn chat(template: &str) -> Chat {
    let specials =
        [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(key, text)| (key.to_owned(), text.to_owned()));
    Chat::new("chat_template.jinja", template, specials.into()).unwrap()
}

fn hello() -> Vec<Message> {
    vec![Message {
        role: "user".to_owned(),
        content: "Hello!".to_owned(),
    }]
}

fn same_as_jinja2(name: &str, template: &str) {
    let recorded = recorded();
    let chat = chat(template);
    for (messages, said) in recorded["chats"]
        .as_array()
        .unwrap()
        .iter()
        .zip(recorded["rendered"][name].as_array().unwrap())
    {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        match (chat.render(&messages), said.as_str()) {
            (Ok(found), Some(said)) => assert_eq!(found, said, "{name}"),
            (Err(Fault::Ask(why)), None) => assert!(why.contains(said["refused"].as_str().unwrap()), "{why}"),
            (found, said) => panic!("{name}: {found:?}, and Jinja2 {said:?}"),
        }
    }
}

#[test]
fn templates_render_as_jinja2_renders_them() {
    same_as_jinja2("smollm2", recorded()["smollm2"].as_str().unwrap());
    same_as_jinja2("qwen2.5", include_str!("../../../testdata/chats/qwen2.5.jinja"));
    same_as_jinja2(
        "alternating",
        include_str!("../../../testdata/chats/alternating.jinja"),
    );
    same_as_jinja2("features", include_str!("../../../testdata/chats/features.jinja"));
}

#[test]
fn smollm2s_chats_are_what_transformers_makes_of_them() {
    let recorded: serde_json::Value =
        serde_json::from_str(include_str!("../../../testdata/smollm2.json")).unwrap();
    let chat = chat(self::recorded()["smollm2"].as_str().unwrap());
    let chats = recorded["chats"].as_array().unwrap();
    assert_eq!(chats.len(), 4);
    for one in chats {
        let messages: Vec<Message> = serde_json::from_value(one["messages"].clone()).unwrap();
        assert_eq!(chat.render(&messages).unwrap(), one["rendered"].as_str().unwrap());
    }
}

#[test]
fn the_first_template_there_is_counts() {
    let config =
        json!({"bos_token": {"content": "<b>"}, "chat_template": "config {{ bos_token }}{{ eos_token }}"});
    let named = json!({"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]});
    let specials = BTreeMap::from([
        ("eos_token".to_owned(), "<e>".to_owned()),
        ("bos_token".to_owned(), "<other>".to_owned()),
    ]);
    let rendered = |file, config: Option<&Map<_, _>>, gguf| {
        let found = Chat::find(
            Sources {
                file,
                tokenizer_config: config,
                gguf,
            },
            &specials,
        )
        .unwrap();
        found.map(|chat| chat.render(&hello()).unwrap())
    };
    let gguf = Some(("model.gguf", "gguf"));
    assert_eq!(
        rendered(Some("file"), config.as_object(), gguf).as_deref(),
        Some("file")
    );
    assert_eq!(
        rendered(None, config.as_object(), gguf).as_deref(),
        Some("config <b><e>")
    );
    assert_eq!(
        rendered(None, named.as_object(), gguf).as_deref(),
        Some("default")
    );
    assert_eq!(
        rendered(None, json!({"chat_template": null}).as_object(), gguf).as_deref(),
        Some("gguf")
    );
    assert_eq!(rendered(None, json!({}).as_object(), None), None);
    assert_eq!(plain(&hello()), "Hello!");
}

#[test]
fn what_is_no_template_is_refused_with_its_file() {
    for template in [
        "{% for %}",
        "{{ a",
        "{% endfor %}",
        "{% if x %}",
        "{% include 'x' %}{% nothing %}",
        &"x".repeat(TEMPLATE_LEN_MAX + 1),
    ] {
        let found = Chat::new("tokenizer_config.json", template, BTreeMap::new());
        let Err(Fault::Invalid { path, .. }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(path, "tokenizer_config.json");
    }
}

/// Templates that would take all time or memory there is.
const HOSTILE: &[(&str, &str)] = &[
    ("a long loop", "{% for i in range(10**9) %}x{% endfor %}"),
    (
        "loops in loops",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    ),
    (
        "macros in macros",
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    ),
    (
        "macros that double",
        "{% macro a() %}{% for i in range(50) %}x{% endfor %}{% endmacro %}{% macro b() %}{% for i in range(5000) %}{{ a() }}{% endfor %}{% endmacro %}{{ b() }}",
    ),
    ("a repeated text", "{{ 'a' * 10**9 }}"),
    ("a text that is too long", "{{ 'a' * 10**7 }}"),
    ("a range", "{{ range(10**12) | list }}"),
    ("a printed list", "{{ [0] * 10**9 }}"),
    (
        "many short outputs",
        "{% for i in range(90000) %}{{ 'a' * 1000 }}{% endfor %}",
    ),
    ("a large number", "{{ 10**10**10 }}"),
    ("division by nothing", "{{ 1 // 0 }}"),
    ("another template", "{% include 'other' %}"),
    ("a template of its own", "{% include 'chat template' %}"),
    ("a template that inherits itself", "{% extends 'chat template' %}"),
    (
        "a private attribute",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ),
    ("a deep expression", "DEEP"),
    ("an unknown filter", "{{ messages | evil }}"),
    (
        "a deep list as json",
        "{% set ns = namespace(x=[]) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    ),
];

#[test]
fn hostile_templates_end_in_an_error_within_a_second() {
    for (what, template) in HOSTILE {
        let started = Instant::now();
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
        let template = if *template == "DEEP" { &deep } else { *template };
        let found = Chat::new("x", template, BTreeMap::new()).and_then(|chat| chat.render(&hello()));
        assert!(matches!(found, Err(Fault::Invalid { .. })), "{what}: {found:?}");
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{what}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn messages_that_are_too_long_are_refused() {
    let long = vec![Message {
        role: "user".to_owned(),
        content: "x".repeat(RENDERED_LEN_MAX),
    }];
    assert!(matches!(chat("x").render(&long), Err(Fault::Ask(_))));
}

#[test]
fn a_chat_of_a_thousand_messages_has_fuel_enough() {
    let messages: Vec<Message> = (0..1000)
        .map(|i| Message {
            role: ["user", "assistant"][i % 2].to_owned(),
            content: format!("message {i}"),
        })
        .collect();
    let rendered = chat(include_str!("../../../testdata/chats/qwen2.5.jinja"))
        .render(&messages)
        .unwrap();
    assert_eq!(rendered.matches("<|im_start|>").count(), 1002);
}
