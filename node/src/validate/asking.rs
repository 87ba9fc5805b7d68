//! Asking an engine what an exam wants to know.

use super::{
    exam::{Answer, Exam, Question},
    report::Behaviour,
};
use crate::{
    engine::{
        session::{Engine, EngineError},
        wire::Input,
    },
    progress::{Phase, Progress},
};

/// Has a model sit an exam. A fault of the model is an answer; an engine that is gone is an error.
pub(super) async fn sit(
    mut exam: Exam,
    engine: &mut Engine,
    progress: &Progress,
) -> Result<Behaviour, EngineError> {
    progress.phase(Phase::Validating, 0, 0);
    let mut asked = 0_u64;
    while let Some(question) = exam.next() {
        asked += 1;
        progress.note(Some(format!(
            "question {asked} of {}",
            asked + exam.left() as u64 - 1
        )));
        let answer = match question {
            Question::Tokens(text) => engine.tokens(&text, true).await.map(Answer::Tokens),
            Question::Embed(ids) => {
                let embedded = engine.embed(Input::Ids(ids)).await;
                embedded.map(|(values, _)| Answer::Embedding(values))
            }
            Question::Logits(ids, top) => {
                let expected = engine.logits(ids, top).await;
                expected.map(|(rows, digest)| Answer::Logits(rows, digest))
            }
        };
        exam.take(match answer {
            Ok(answer) => answer,
            Err(EngineError::Fault(fault)) => Answer::Fault(fault),
            Err(error) => return Err(error),
        });
    }
    Ok(exam.finish())
}
