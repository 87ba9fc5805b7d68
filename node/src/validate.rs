//! Validating: a model loads, runs and gives the results that its publisher declared. (That its bytes are the right ones is
//! *verifying*; an engine hashes what it reads, and believes nothing else.)
//!
//! | level | looks at |
//! |---|---|
//! | structure | what the files say of themselves, and whether they fit together |
//! | numbers | every number of every tensor |
//! | behaviour | the declared probes, challenges that nobody could prepare for, and a fixed text: always in 32 bits floats |
//!
//! Each level has its verdict. What could not be done, for want of memory say, is not failed. What came out is signed, and kept as an attestation;
//! where somebody whom the user follows attested the model before, their challenge is repeated, and the results are compared.

mod asking;
pub(crate) mod challenge;
mod compare;
mod error;
mod exam;
mod host;
mod make;
mod probes;
mod report;
mod scan;
mod structure;
mod text;

use std::{path::PathBuf, time::Instant};

use protocol::{Attestation, Hash, Manifest, RepoRef, SignedAttestation, Verdict, limits::CHALLENGES_MAX};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub use error::ValidateError;
pub use make::{Made, ProbeRequest, make_probes_in};
pub use probes::{PATH as PROBES_PATH, Probes, ProbesError};
pub use report::{Compared, Line, Report};

use crate::{
    attest::standing,
    engine::{
        session::{Engine, EngineConfig, EngineError},
        wire::{Fault, Weights},
    },
    library::{Library, LibraryError, now},
    node::Node,
    progress::{Phase, Progress},
    run::{Ready, RunError, RunOptions},
    store::{StoreError, blocking},
};
use exam::{Exam, Examinee};
use report::Behaviour;

/// Memory that looking at numbers takes at most, in bytes: a piece of a file for each thread, and the program.
const SCAN_MEMORY: u64 = 2 << 30;

/// How far a validation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Only what the files say of themselves.
    Structure,
    /// Their numbers too.
    Numbers,
    /// Everything.
    #[default]
    Behaviour,
}

/// What to validate.
#[derive(Clone, Debug)]
pub struct ValidateRequest {
    /// Which repo.
    pub what: RepoRef,
    /// Which file is the model, in a repo that has several.
    pub file: Option<String>,
    /// How far to go.
    pub level: Level,
    /// Most memory that the engine may take, in bytes; `None`: what is free.
    pub memory: Option<u64>,
    /// The program that runs engines; `None`: this one.
    pub program: Option<PathBuf>,
}

impl ValidateRequest {
    /// Asks for everything.
    pub fn new(what: RepoRef) -> ValidateRequest {
        ValidateRequest {
            what,
            file: None,
            level: Level::default(),
            memory: None,
            program: None,
        }
    }
}

/// What is known of a model while it is validated.
struct Findings {
    structure: Line,
    numbers: Line,
    behaviour: Behaviour,
    probes: Option<Hash>,
    /// Doors of the engine that this system cannot close.
    open: Vec<String>,
}

impl Node {
    /// Validates a model, as [`Library::validate`] does; peers are asked first who else did.
    ///
    /// # Errors
    /// Every [`ValidateError`].
    pub async fn validate(
        &self,
        mut request: ValidateRequest,
        progress: &Progress,
    ) -> Result<Report, ValidateError> {
        self.library().refuse_denied(&request.what)?;
        let program = &self.config().engines.program;
        request.program = request.program.or_else(|| program.clone());
        let manifest = self.library().resolve_local(&request.what)?;
        progress.phase(Phase::Finding, 0, 0);
        self.gather_attestations(manifest).await;
        self.library().validate(request, progress).await
    }
}

impl Library {
    /// Validates a model that is here, and signs what came out. Needs no network.
    ///
    /// # Errors
    /// [`ValidateError`]: there is no model, or nothing could be said about it. A model that fails is no error.
    pub async fn validate(
        &self,
        request: ValidateRequest,
        progress: &Progress,
    ) -> Result<Report, ValidateError> {
        self.refuse_denied(&request.what)?;
        let begun = Instant::now();
        let hash = self.resolve_local(&request.what)?;
        let content = self.known_manifest(&request.what, hash).await?;
        let others = self.others(hash).await?;
        let found = match self.ready(&request.what, request.file.as_deref()).await {
            Ok(ready) => {
                self.examine(&request, &content, &ready, &others, progress)
                    .await?
            }
            Err(error @ RunError::Header { .. }) => Findings {
                structure: Line::failed(error::words(&error)),
                ..Findings::nothing("the structure is wrong")
            },
            Err(error) => return Err(error.into()),
        };
        let attestation = self.attestation(hash, &found);
        let levels = [attestation.structure, attestation.numbers, attestation.behaviour];
        if levels.iter().all(|level| *level == Verdict::NotDone) {
            return Err(ValidateError::Nothing {
                why: found.structure.text,
            });
        }
        self.sign(attestation.clone()).await?;
        Ok(self.report(found, &attestation, &others, begun.elapsed().as_secs_f64()))
    }

    /// Goes from level to level, as far as it is wanted and makes sense.
    async fn examine(
        &self,
        request: &ValidateRequest,
        content: &Manifest,
        ready: &Ready,
        others: &[Attestation],
        progress: &Progress,
    ) -> Result<Findings, ValidateError> {
        let mut found = Findings::nothing("not asked for");
        // Half a file says nothing that could be signed.
        let missing = self.missing(content).await.map_err(LibraryError::from)?;
        let missing = missing.into_iter().map(|(hash, _)| hash).collect();
        found.structure = structure::judge(&self.facts(content, missing).await?);
        if request.level == Level::Structure || found.structure.verdict == Verdict::Failed {
            return Ok(found);
        }
        self.scan(request, ready, &mut found, progress).await?;
        if found.numbers.verdict == Verdict::Failed || found.structure.verdict == Verdict::Failed {
            found.behaviour = Behaviour::only(Line::not_done("what is below it is wrong"));
            return Ok(found);
        }
        if request.level == Level::Behaviour {
            self.behave(request, content, ready, others, &mut found, progress)
                .await?;
        }
        Ok(found)
    }

    async fn scan(
        &self,
        request: &ValidateRequest,
        ready: &Ready,
        found: &mut Findings,
        progress: &Progress,
    ) -> Result<(), ValidateError> {
        let config = EngineConfig {
            program: request.program.clone(),
            memory: Some(
                request
                    .memory
                    .map_or(SCAN_MEMORY, |memory| memory.min(SCAN_MEMORY)),
            ),
            ..EngineConfig::default()
        };
        progress.phase(Phase::Validating, ready.bytes(), 0);
        let mut seen = 0;
        let read = |bytes: u64| {
            progress.add(bytes.saturating_sub(seen), 0);
            seen = seen.max(bytes);
        };
        let scanned = match Engine::start(&config).await {
            Ok(mut engine) => {
                let scanned = engine.scan(ready.files.clone(), read).await;
                found.open = engine.open();
                scanned
            }
            Err(error) => Err(error),
        };
        match scanned {
            Ok(numbers) => found.numbers = scan::judge(&numbers, ready.tensors()),
            Err(EngineError::Fault(fault @ (Fault::Invalid { .. } | Fault::Absent { .. }))) => {
                found.structure = Line::failed(fault.to_string());
            }
            Err(error) => found.numbers = error::line(error)?,
        }
        Ok(())
    }

    async fn behave(
        &self,
        request: &ValidateRequest,
        content: &Manifest,
        ready: &Ready,
        others: &[Attestation],
        found: &mut Findings,
        progress: &Progress,
    ) -> Result<(), ValidateError> {
        let declared = self.declared(content, ready).await?;
        let (probes, unread) = match declared {
            Declared::Nothing => (None, None),
            Declared::Probes(hash, probes) => {
                found.probes = Some(hash);
                (Some(probes), None)
            }
            Declared::Unread(hash, line) => {
                found.probes = Some(hash);
                (None, Some(line))
            }
        };
        let options = RunOptions {
            file: request.file.clone(),
            memory: request.memory,
            weights: Some(Weights::F32),
            program: request.program.clone(),
        };
        let (mut engine, loaded) = match self.load(ready, &options, progress).await {
            Ok(loaded) => loaded,
            Err(RunError::Engine(EngineError::Fault(
                fault @ (Fault::Invalid { .. } | Fault::Absent { .. }),
            ))) => {
                found.structure = Line::failed(fault.to_string());
                found.behaviour = Behaviour::only(Line::not_done("the model cannot be made of its files"));
                return Ok(());
            }
            Err(RunError::Engine(error)) => {
                found.behaviour = Behaviour::only(error::line(error)?);
                return Ok(());
            }
            Err(error @ RunError::Memory { .. }) => {
                found.behaviour = Behaviour::only(Line::not_done(error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let examinee = Examinee {
            manifest: ready.manifest,
            task: loaded.task,
            vocabulary: host::vocabulary(ready.tensors()),
            context: loaded.context,
        };
        let nonces = self.nonces(ready.manifest, others).await?;
        let exam = Exam::new(examinee, probes.as_ref(), &nonces);
        let mut behaviour = match asking::sit(exam, &mut engine, progress).await {
            Ok(behaviour) => behaviour,
            Err(error) => Behaviour::only(error::line(error)?),
        };
        // What it computes is worth something to others in any case, but for us it has not passed.
        if let Some(line) = unread
            && behaviour.line.verdict != Verdict::Failed
        {
            if line.verdict == Verdict::NotDone {
                behaviour = Behaviour::only(line);
            } else {
                behaviour.line = line;
            }
        }
        found.behaviour = behaviour;
        Ok(())
    }

    /// What the publisher declares.
    async fn declared(&self, content: &Manifest, ready: &Ready) -> Result<Declared, ValidateError> {
        let Some(file) = content.file(probes::PATH) else {
            return Ok(Declared::Nothing);
        };
        let unread = |line| Ok(Declared::Unread(file.blake3, line));
        if file.size > probes::LEN_MAX {
            let (size, max) = (file.size, probes::LEN_MAX);
            return unread(Line::failed(format!(
                "{}: it has {size} bytes, more than {max}",
                probes::PATH
            )));
        }
        let bytes = match self.store().read(file.blake3, probes::LEN_MAX).await {
            Ok(bytes) => bytes,
            Err(StoreError::Missing(_)) => {
                return unread(Line::not_done(format!("{} is not here", probes::PATH)));
            }
            Err(error) => return Err(LibraryError::from(error).into()),
        };
        let read = Probes::decode(&bytes).and_then(|probes| {
            let tokenizer = content.file("tokenizer.json").map(|file| file.blake3);
            probes.fits(&host::weights(ready), tokenizer)?;
            Ok(probes)
        });
        match read {
            Ok(probes) => Ok(Declared::Probes(file.blake3, probes)),
            Err(error @ ProbesError::Unsupported(_)) => unread(Line::not_done(error.to_string())),
            Err(error @ ProbesError::Wrong(_)) => unread(Line::failed(error.to_string())),
        }
    }

    /// What those whom the user follows found, the latest first.
    async fn others(&self, manifest: Hash) -> Result<Vec<Attestation>, ValidateError> {
        let (library, followed) = (self.clone(), self.valued().followed);
        let read = blocking(move || Ok(library.attestations_of(manifest))).await;
        let all = read.map_err(LibraryError::from)??;
        let all = all.iter().map(SignedAttestation::attestation);
        Ok(all.filter(|it| followed.contains(&it.by)).cloned().collect())
    }

    /// The nonces of the challenges to take: our own, the one that we took before if we did, so that others need not repeat a new one; and
    /// those of others.
    async fn nonces(
        &self,
        manifest: Hash,
        others: &[Attestation],
    ) -> Result<Vec<[u8; protocol::attestation::NONCE_LEN]>, ValidateError> {
        let (library, own) = (self.clone(), self.publisher());
        let read = blocking(move || Ok(library.attestations_of(manifest))).await;
        let all = read.map_err(LibraryError::from)??;
        let before = all
            .iter()
            .map(SignedAttestation::attestation)
            .find(|it| it.by == own);
        let before = before.and_then(|it| it.challenges.first());
        let mut nonces = vec![before.map_or_else(rand::random, |challenge| challenge.nonce)];
        for other in others.iter().filter_map(|it| it.challenges.first()) {
            if nonces.len() < CHALLENGES_MAX && !nonces.contains(&other.nonce) {
                nonces.push(other.nonce);
            }
        }
        Ok(nonces)
    }

    fn attestation(&self, manifest: Hash, found: &Findings) -> Attestation {
        let Findings {
            structure,
            numbers,
            behaviour,
            probes,
            ..
        } = found;
        Attestation {
            by: self.publisher(),
            manifest,
            structure: structure.verdict,
            numbers: numbers.verdict,
            behaviour: behaviour.line.verdict,
            probes: *probes,
            differences: behaviour.differences,
            challenges: behaviour.challenges.clone(),
            bits_per_byte: behaviour.bits_per_byte,
            runtime: host::RUNTIME.to_owned(),
            features: host::features(),
            issued: now(),
        }
    }

    /// Signs what was found, and keeps it in place of what we found before.
    async fn sign(&self, attestation: Attestation) -> Result<(), ValidateError> {
        let key = self.publisher_key().map_err(crate::attest::AttestError::from)?;
        let signed = SignedAttestation::sign(attestation, &key).map_err(crate::attest::AttestError::from)?;
        let library = self.clone();
        let kept = blocking(move || Ok(library.attested(&signed))).await;
        kept.map_err(LibraryError::from)??;
        Ok(())
    }

    fn report(&self, found: Findings, ours: &Attestation, others: &[Attestation], seconds: f64) -> Report {
        let passed = ours.behaviour == Verdict::Passed;
        let comparable = others
            .iter()
            .filter(|other| passed && other.behaviour == Verdict::Passed);
        let compared = comparable.map(|other| {
            let compared = standing::compare(ours, other);
            if !compared.agrees {
                warn!(by = %other.by.short(), "somebody found other results");
            }
            Compared {
                by: other.by,
                agrees: compared.agrees,
                difference: compared.difference,
            }
        });
        let differences = ours.differences;
        Report {
            manifest: ours.manifest,
            compared: compared.collect(),
            differences: [differences.embed, differences.logits, differences.nll]
                .map(|number| number.map(protocol::Finite::get)),
            bits_per_byte: ours.bits_per_byte.map(protocol::Finite::get),
            probes: found.probes,
            structure: found.structure,
            numbers: found.numbers,
            behaviour: found.behaviour.line,
            open: found.open,
            by: ours.by,
            seconds,
        }
    }
}

/// What a publisher declares, as far as it reads.
enum Declared {
    Nothing,
    Probes(Hash, Probes),
    /// There is something, and this is to be said of it.
    Unread(Hash, Line),
}

impl Findings {
    /// Nothing was looked at, and why.
    fn nothing(why: &str) -> Findings {
        Findings {
            structure: Line::not_done(why),
            numbers: Line::not_done(why),
            behaviour: Behaviour::only(Line::not_done(why)),
            probes: None,
            open: Vec::new(),
        }
    }
}
