//! Pickles as Python's `pickle.py` writes them, of the protocols 0 to 5.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
};

/// What a pickle is made of.
#[derive(Clone, Debug)]
pub(in crate::check::tests) enum Thing {
    None,
    Bool(bool),
    Int(i32),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Thing>),
    Tuple(Vec<Thing>),
    Dict(Vec<(String, Thing)>),
    /// Something called, with what.
    Call(String, String, Vec<Thing>),
}

/// A whole pickle of a protocol.
pub(in crate::check::tests) fn whole(thing: &Thing, protocol: u8) -> Vec<u8> {
    let mut writer = Writer {
        protocol,
        bytes: Vec::new(),
        memo: 0,
    };
    writer.write(thing);
    writer.put(b".");
    let body = writer.bytes;
    let mut file = Vec::new();
    if protocol >= 2 {
        file.extend([0x80, protocol]);
    }
    if protocol >= 4 {
        file.push(0x95);
        file.extend((body.len() as u64).to_le_bytes());
    }
    [file, body].concat()
}

/// Writes pickles as Python's `pickle.py` does, of the protocols 0 to 5.
struct Writer {
    protocol: u8,
    bytes: Vec<u8>,
    memo: u32,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    fn line(&mut self, op: &str, text: &str) {
        self.put(op.as_bytes());
        self.put(text.as_bytes());
        self.put(b"\n");
    }

    /// Keeps what was written last.
    fn keep(&mut self) {
        let at = self.memo;
        self.memo += 1;
        match (self.protocol, u8::try_from(at)) {
            (0, _) => self.line("p", &at.to_string()),
            (4.., _) => self.put(b"\x94"),
            (_, Ok(at)) => self.put(&[b'q', at]),
            (_, Err(_)) => {
                self.put(b"r");
                self.put(&at.to_le_bytes());
            }
        }
    }

    fn counted(&mut self, short: Option<u8>, long: u8, bytes: &[u8]) {
        match (short, u8::try_from(bytes.len())) {
            (Some(op), Ok(len)) => self.put(&[op, len]),
            _ => {
                self.put(&[long]);
                self.put(&(bytes.len() as u32).to_le_bytes());
            }
        }
        self.put(bytes);
    }

    fn text(&mut self, text: &str) {
        match self.protocol {
            0 => {
                // Bytes of Latin 1, and escapes for what a line cannot have.
                self.put(b"V");
                for letter in text.chars() {
                    match (letter, u32::from(letter)) {
                        ('\\' | '\0' | '\n' | '\r' | '\x1a', _) | (_, 0x100..=0xffff) => {
                            let escaped = format!("\\u{:04x}", u32::from(letter));
                            self.put(escaped.as_bytes());
                        }
                        (_, 0x1_0000..) => {
                            let escaped = format!("\\U{:08x}", u32::from(letter));
                            self.put(escaped.as_bytes());
                        }
                        (_, number) => self.put(&[number as u8]),
                    }
                }
                self.put(b"\n");
            }
            1..=3 => self.counted(None, b'X', text.as_bytes()),
            _ => self.counted(Some(0x8c), b'X', text.as_bytes()),
        }
        self.keep();
    }

    fn name(&mut self, module: &str, name: &str) {
        match self.protocol {
            ..4 => {
                self.line("c", module);
                self.line("", name);
            }
            _ => {
                self.text(module);
                self.text(name);
                self.put(b"\x93");
            }
        }
        self.keep();
    }

    fn tuple(&mut self, things: &[Thing]) {
        match (self.protocol, things.len()) {
            (1.., 0) => return self.put(b")"),
            (2.., len @ 1..=3) => {
                things.iter().for_each(|thing| self.write(thing));
                self.put(&[0x84 + len as u8]);
            }
            _ => {
                self.put(b"(");
                things.iter().for_each(|thing| self.write(thing));
                self.put(b"t");
            }
        }
        self.keep();
    }

    fn write(&mut self, thing: &Thing) {
        match thing {
            Thing::None => self.put(b"N"),
            Thing::Bool(yes) if self.protocol >= 2 => self.put(if *yes { b"\x88" } else { b"\x89" }),
            Thing::Bool(yes) => self.line("I", if *yes { "01" } else { "00" }),
            Thing::Int(number) if self.protocol == 0 => self.line("I", &number.to_string()),
            Thing::Int(number) => match (u8::try_from(*number), u16::try_from(*number)) {
                (Ok(byte), _) => self.put(&[b'K', byte]),
                (_, Ok(two)) => {
                    self.put(b"M");
                    self.put(&two.to_le_bytes());
                }
                _ => {
                    self.put(b"J");
                    self.put(&number.to_le_bytes());
                }
            },
            Thing::Float(number) if self.protocol == 0 => self.line("F", &format!("{number:?}")),
            Thing::Float(number) => {
                self.put(b"G");
                self.put(&number.to_be_bytes());
            }
            Thing::Text(text) => self.text(text),
            Thing::Bytes(bytes) if self.protocol < 3 => {
                // There are none: they are made of a text by a call.
                let text = bytes.iter().map(|byte| char::from(*byte)).collect();
                let arguments = vec![Thing::Text(text), Thing::Text("latin1".to_owned())];
                self.write(&Thing::Call("_codecs".to_owned(), "encode".to_owned(), arguments));
            }
            Thing::Bytes(bytes) => {
                self.counted(Some(b'C'), b'B', bytes);
                self.keep();
            }
            Thing::List(things) => {
                self.put(if self.protocol == 0 { b"(l" } else { b"]" });
                self.keep();
                self.each(things, "a", "e", |writer, thing| writer.write(thing));
            }
            Thing::Dict(entries) => {
                self.put(if self.protocol == 0 { b"(d" } else { b"}" });
                self.keep();
                self.each(entries, "s", "u", |writer, (key, thing)| {
                    writer.text(key);
                    writer.write(thing);
                });
            }
            Thing::Tuple(things) => self.tuple(things),
            Thing::Call(module, name, arguments) => {
                self.name(module, name);
                self.tuple(arguments);
                self.put(b"R");
                self.keep();
            }
        }
    }

    /// Adds to what was written last, one by one or all at once.
    fn each<T>(&mut self, all: &[T], one: &str, many: &str, write: impl Fn(&mut Writer, &T)) {
        match (self.protocol, all) {
            (_, []) => {}
            (0, all) => all.iter().for_each(|thing| {
                write(self, thing);
                self.put(one.as_bytes());
            }),
            (_, [thing]) => {
                write(self, thing);
                self.put(one.as_bytes());
            }
            (_, all) => {
                self.put(b"(");
                all.iter().for_each(|thing| write(self, thing));
                self.put(many.as_bytes());
            }
        }
    }
}

/// Things of every kind, within each other.
pub(super) fn things() -> impl Strategy<Value = Thing> {
    let name = || "[a-z_][a-z0-9_]{0,12}(\\.[a-z_]{1,8}){0,2}";
    let leaf = prop_oneof![
        Just(Thing::None),
        any::<bool>().prop_map(Thing::Bool),
        any::<i32>().prop_map(Thing::Int),
        (0..300).prop_map(Thing::Int),
        any::<f64>().prop_map(Thing::Float),
        any::<String>().prop_map(Thing::Text),
        vec(any::<u8>(), 0..300).prop_map(Thing::Bytes),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Thing::List),
            vec(inner.clone(), 0..6).prop_map(Thing::Tuple),
            vec((any::<String>(), inner.clone()), 0..5).prop_map(Thing::Dict),
            (name(), name(), vec(inner, 0..4)).prop_map(|(module, name, with)| Thing::Call(
                module.replace('.', "_"),
                name,
                with
            )),
        ]
    })
}
