use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

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

/// What ends a template that would take all time or memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its instructions are counted.
    Fuel,
    /// Its output is.
    Output,
    /// It cannot do what it wants to, and this is said.
    Words(&'static str),
}

impl End {
    fn words(self) -> String {
        match self {
            End::Fuel => "engine ran out of fuel".to_owned(),
            End::Output => format!("it makes more than {RENDERED_LEN_MAX} bytes"),
            End::Words(words) => words.to_owned(),
        }
    }
}

const HOSTILE: &[(&str, &str, End)] = &[
    (
        "a long loop",
        "{% for i in range(10**9) %}x{% endfor %}",
        End::Words("range"),
    ),
    (
        "loops in loops",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
        End::Fuel,
    ),
    (
        "a loop that calls itself",
        "{% for i in [[1]] recursive %}{{ loop([i, i]) }}{{ loop([i, i]) }}{% endfor %}",
        End::Words("recursion"),
    ),
    (
        "macros in macros",
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        End::Words("recursion"),
    ),
    (
        "macros that double",
        "{% macro a() %}{% for i in range(50) %}x{% endfor %}{% endmacro %}{% macro b() %}{% for i in range(5000) %}{{ a() }}{% endfor %}{% endmacro %}{{ b() }}",
        End::Fuel,
    ),
    (
        "macros that call back",
        "{% macro m() %}{% for i in range(9999) %}{{ caller() }}{% endfor %}{% endmacro %}{% call m() %}{% for i in range(9999) %}{% endfor %}{% endcall %}",
        End::Fuel,
    ),
    (
        "a loop that is kept",
        "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}{% endset %}",
        End::Fuel,
    ),
    ("a repeated text", "{{ 'a' * 10**9 }}", End::Words("too large")),
    ("a text that is too long", "{{ 'a' * 10**7 }}", End::Output),
    ("a range", "{{ range(10**12) | list }}", End::Words("range")),
    ("a printed list", "{{ [0] * 10**9 }}", End::Output),
    (
        "many short outputs",
        "{% for i in range(90000) %}{{ 'a' * 1000 }}{% endfor %}",
        End::Output,
    ),
    (
        "a large number",
        "{{ 10**10**10 }}",
        End::Words("unable to calculate"),
    ),
    (
        "division by nothing",
        "{{ 1 // 0 }}",
        End::Words("unable to calculate"),
    ),
    ("another template", "{% include 'other' %}", End::Words("other")),
    (
        "a template of its own",
        "{% include 'chat template' %}",
        End::Words("could not render include"),
    ),
    (
        "a template that inherits itself",
        "{% extends 'chat template' %}",
        End::Words("cycle"),
    ),
    (
        "a private attribute",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        End::Words("undefined"),
    ),
    ("a deep expression", "DEEP", End::Words("recursion")),
    (
        "an unknown filter",
        "{{ messages | evil }}",
        End::Words("filter evil is unknown"),
    ),
    (
        "a deep list",
        "{% set ns = namespace(x=[]) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        End::Words("too deep"),
    ),
    (
        "a deep list as json",
        "{% set ns = namespace(x=[]) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        End::Words("too deep"),
    ),
];

/// Longest that a template may take: only one that is bounded by nothing takes as long. How long they do take is no matter of a test.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn hostile_templates_end_by_the_bound_that_is_meant_for_them() {
    let mut wrong = Vec::new();
    for (what, template, end) in HOSTILE {
        let started = Instant::now();
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
        let template = if *template == "DEEP" { &deep } else { *template };
        let render = || Chat::new("x", template, BTreeMap::new()).and_then(|chat| chat.render(&hello()));
        let Err(Fault::Invalid { what: words, .. }) = render() else {
            panic!("{what}: {:?}", render())
        };
        if !words.contains(&end.words()) {
            wrong.push(format!("{what}: {words}"));
        }
        assert_eq!(
            render(),
            Err(Fault::Invalid {
                path: "x".to_owned(),
                what: words
            }),
            "{what}"
        );
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", started.elapsed());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Renders a template which counts its own steps by calling `tick`; returns how many there were, and how it ended.
fn ticks(template: &str, fuel: u64) -> (u64, Result<String, Fault>) {
    let mut chat = chat(template);
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    chat.environment.add_function("tick", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        ""
    });
    chat.environment.set_fuel(Some(fuel));
    let rendered = chat.render(&hello());
    (count.load(Ordering::Relaxed), rendered)
}

/// However it is nested, a template takes no more steps than it has fuel, always the same number, and more if it has more.
#[test]
fn steps_are_bounded_by_fuel_and_by_nothing_that_differs() {
    for template in [
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ tick() }}{% endfor %}{% endfor %}",
        "{% macro m() %}{% for i in range(99999) %}{{ tick() }}{% endfor %}{% endmacro %}{% for i in range(99999) %}{{ m() }}{% endfor %}",
        "{% macro m() %}{% for i in range(99999) %}{{ caller() }}{% endfor %}{% endmacro %}{% call m() %}{% for i in range(99999) %}{{ tick() }}{% endfor %}{% endcall %}",
        "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}{% if tick() %}{% endif %}{% endfor %}{% endfor %}{% endset %}",
        "{% for i in range(99999) %}{% for j in range(99999) if tick() == '' %}{% endfor %}{% endfor %}",
    ] {
        let (steps, ended) = ticks(template, FUEL);
        let Err(Fault::Invalid { what, .. }) = &ended else {
            panic!("{template}: {ended:?}")
        };
        assert!(what.contains(&End::Fuel.words()), "{template}: {what}");
        assert!((FUEL / 20..=FUEL).contains(&steps), "{template}: {steps}");
        assert_eq!(ticks(template, FUEL), (steps, ended), "{template}");
        let (half, _) = ticks(template, FUEL / 2);
        assert!(
            half.abs_diff(steps / 2) <= steps / 20 + 1,
            "{template}: {half} of {steps}"
        );
    }
}

#[test]
fn no_more_is_written_than_a_text_may_have() {
    let exactly = format!("{{{{ 'a' * {} }}}}b", RENDERED_LEN_MAX - 1);
    assert_eq!(chat(&exactly).render(&hello()).unwrap().len(), RENDERED_LEN_MAX);
    let more = format!("{{{{ 'a' * {RENDERED_LEN_MAX} }}}}b{{{{ raise_exception('it went on') }}}}");
    let found = chat(&more).render(&hello());
    assert!(
        matches!(&found, Err(Fault::Invalid { what, .. }) if what.contains(&End::Output.words())),
        "{found:?}"
    );
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
fn a_chat_of_a_thousand_messages_takes_a_fifth_of_the_fuel_at_most() {
    let messages: Vec<Message> = (0..1000)
        .map(|i| Message {
            role: ["user", "assistant"][i % 2].to_owned(),
            content: format!("message {i}"),
        })
        .collect();
    let template = include_str!("../../../testdata/chats/qwen2.5.jinja");
    let mut chat = chat(&format!("{template}{{{{ fuel() }}}}"));
    let used = |state: &State| state.fuel_levels().map(|(used, _)| used);
    chat.environment.add_function("fuel", used);
    let rendered = chat.render(&messages).unwrap();
    assert_eq!(rendered.matches("<|im_start|>").count(), 1002);
    let (_, used) = rendered.rsplit_once('\n').unwrap();
    let used: u64 = used.parse().unwrap();
    println!("{used} of {FUEL}");
    assert!(used > 1_000 && used <= FUEL / 5, "{used}");
}
