//! What the routes share: the model's thread, the store, and the answers under way.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ossicle_core::harmony::builtin::PYTHON;
use ossicle_host::policy::{Subject, Verdict};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::answer::{AnswerEvent, End, Presentation, ResponseAnswer, ServerEvent};
use crate::error::ApiError;
use crate::gated::{Held, Next, Policy};
use crate::metrics::Metrics;
use crate::request::{Context, Request, Task, ToolKind, previous_response_id};
use crate::rounds::{BoxedInterpreter, Interpreters, Rounds};
use crate::seal::{Seal, new_id};
use crate::settings::Settings;
use crate::store::{Store, Stored};
use crate::worker::{Command, Job};

/// How far a client may fall behind, in events. Then it is given up: an answer must not fill the memory.
const EVENTS_BEHIND: usize = 16_384;

/// How to cancel the responses under way, by owner and id.
type UnderWay = HashMap<(Arc<str>, String), Arc<AtomicBool>>;

/// What the routes share.
pub struct Service {
    pub settings: Settings,
    pub metrics: Arc<Metrics>,
    pub seal: Arc<Seal>,
    /// When the server began, in seconds since 1970.
    pub begun: u64,
    commands: std::sync::mpsc::Sender<Command>,
    store: Arc<Store>,
    under_way: Mutex<UnderWay>,
    interpreters: Arc<Interpreters>,
}

type Result<T> = std::result::Result<T, ApiError>;

/// Runs the Python of an answer, and queues what follows.
struct Python {
    rounds: Rounds,
    interpreter: Option<BoxedInterpreter>,
    interpreters: Arc<Interpreters>,
    commands: std::sync::mpsc::Sender<Command>,
    deadline: Option<Instant>,
    /// The events of a round but the first have a beginning that is not the answer's.
    has_begun: bool,
}

/// Events of an answer, in the order in which they come. Dropped, the answer ends.
pub struct Events {
    receiver: mpsc::Receiver<AnswerEvent>,
    pub cancelled: Arc<AtomicBool>,
    policy: Policy,
    /// How the answer goes on after the model has called Python.
    python: Option<Python>,
    /// The request and whose it is, for the log.
    request: (String, Arc<str>),
    /// A message that has to be judged when it is whole.
    held: Held,
    /// Events that have been judged.
    ready: VecDeque<AnswerEvent>,
}

impl Events {
    /// The next event. Where the model's thread is gone, a failure.
    pub async fn next(&mut self) -> AnswerEvent {
        let event = self.next_of_answer().await;
        if let AnswerEvent::Stop { end, usage } = &event {
            let entry = json!({
                "what": "ended", "end": end.name(), "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
            });
            self.policy.log((&self.request.0, &self.request.1), entry);
        }
        event
    }

    /// The same, of all rounds.
    async fn next_of_answer(&mut self) -> AnswerEvent {
        loop {
            let mut event = self.next_of_round().await;
            let Some(python) = &mut self.python else { return event };
            if event == AnswerEvent::Begin && std::mem::replace(&mut python.has_begun, true) {
                continue;
            }
            python.rounds.observe(&event);
            let AnswerEvent::Stop { end, usage } = &mut event else { return event };
            python.rounds.add(*usage);
            *usage = python.rounds.usage();
            if *end == End::Completed && python.rounds.code().is_some() {
                match self.run().await {
                    Ok(printed) => return AnswerEvent::ToolResult(printed),
                    Err(why) => *end = why,
                }
            }
            if let Some(python) = &mut self.python
                && let Some(interpreter) = python.interpreter.take()
            {
                python.interpreters.keep(&self.request.1, &self.request.0, interpreter);
            }
            return event;
        }
    }

    /// Runs the code that the round ended with, and begins the next. What it printed, or why there is no further round.
    async fn run(&mut self) -> std::result::Result<String, End> {
        let Some(python) = &mut self.python else { return Err(End::Completed) };
        if python.rounds.is_used_up() {
            return Err(End::Length);
        }
        let (Some(code), Some(mut interpreter)) = (python.rounds.code().map(str::to_owned), python.interpreter.take())
        else {
            return Err(End::Completed);
        };
        let permit = python.interpreters.permit().await;
        let (policy, request) = (self.policy.clone(), self.request.clone());
        let run = blocking(move || {
            let printed = interpreter.run(&code);
            let subject = Subject::ToolResult { tool: PYTHON.name, text: &printed };
            let verdict = policy.judge((&request.0, &request.1), &subject);
            // Only now, even if nobody waits for it any more.
            drop(permit);
            Ok((interpreter, printed, verdict))
        });
        let (interpreter, mut printed, verdict) = run.await.map_err(End::Failed)?;
        python.interpreter = Some(interpreter);
        match verdict {
            Verdict::Allow => {}
            Verdict::Replace(text) => printed = text,
            Verdict::Stop(reason) => return Err(End::Filtered(reason)),
        }
        let task = python.rounds.next(&printed);
        let (events, receiver) = mpsc::channel(EVENTS_BEHIND);
        let job =
            Job { task, events, cancelled: Arc::clone(&self.cancelled), deadline: python.deadline, is_continued: true };
        let (admitted, verdict) = oneshot::channel();
        python.commands.send(Command::Answer(job, admitted)).map_err(|_| End::Failed(ApiError::unavailable()))?;
        verdict.await.unwrap_or_else(|_| Err(ApiError::unavailable())).map_err(End::Failed)?;
        self.receiver = receiver;
        Ok(printed)
    }

    /// The same, of this round alone.
    async fn next_of_round(&mut self) -> AnswerEvent {
        loop {
            let event = match self.ready.pop_front() {
                Some(event) => event,
                None => match self.receive().await {
                    event if self.policy.gate.is_none() => event,
                    event => match self.held.take(event) {
                        Next::Pass(event) => event,
                        Next::Wait => continue,
                        Next::Judge(message) => {
                            self.judge(message).await;
                            continue;
                        }
                    },
                },
            };
            return event;
        }
    }

    async fn receive(&mut self) -> AnswerEvent {
        let gone = || AnswerEvent::Stop { end: End::Failed(ApiError::unavailable()), usage: Default::default() };
        self.receiver.recv().await.unwrap_or_else(gone)
    }

    async fn judge(&mut self, message: Held) {
        let (policy, request) = (self.policy.clone(), self.request.clone());
        let judged = blocking(move || {
            let verdict = policy.judge((&request.0, &request.1), &message.subject());
            Ok((message, verdict))
        });
        match judged.await {
            Ok((message, Verdict::Allow)) => self.ready.extend(message.release()),
            Ok((message, Verdict::Replace(text))) => self.ready.extend(message.replace(text)),
            Ok((_, Verdict::Stop(reason))) => self.stop(End::Filtered(reason)).await,
            Err(error) => self.stop(End::Failed(error)).await,
        }
    }

    /// Ends the answer, with what it took until then.
    async fn stop(&mut self, end: End) {
        self.cancelled.store(true, Ordering::Relaxed);
        loop {
            if let AnswerEvent::Stop { usage, .. } = self.receive().await {
                self.ready.push_back(AnswerEvent::Stop { end, usage });
                return;
            }
        }
    }
}

impl Service {
    pub fn new(
        settings: Settings,
        commands: std::sync::mpsc::Sender<Command>,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<Self, redb::Error> {
        let seal = Arc::new(Seal::new(&store.key()?));
        Ok(Self {
            settings,
            metrics,
            seal,
            begun: now(),
            commands,
            store: Arc::new(store),
            under_way: Mutex::default(),
            interpreters: Arc::default(),
        })
    }

    /// Puts a task in the queue, if the policy lets it pass; `id` is that of the answer.
    pub async fn answer(
        &self,
        mut task: Task,
        (id, previous): (&str, Option<&str>),
        owner: &Arc<str>,
    ) -> Result<Events> {
        self.metrics.requests.fetch_add(1, Ordering::Relaxed);
        let (events, receiver) = mpsc::channel(EVENTS_BEHIND);
        let cancelled = Arc::new(AtomicBool::new(false));
        let policy = self.settings.policy.clone();
        let mut answer = Events {
            receiver,
            cancelled: Arc::clone(&cancelled),
            policy: policy.clone(),
            python: None,
            request: (id.to_owned(), Arc::clone(owner)),
            held: Held::default(),
            ready: VecDeque::new(),
        };
        if policy.gate.is_some() {
            let request = answer.request.clone();
            let verdict;
            (task, verdict) = blocking(move || {
                let verdict = policy.judge_task((&request.0, &request.1), &mut task);
                Ok((task, verdict))
            })
            .await?;
            if let Err(reason) = verdict {
                let _ = events.try_send(AnswerEvent::Stop { end: End::Filtered(reason), usage: Default::default() });
                return Ok(answer);
            }
        }
        let (admitted, verdict) = oneshot::channel();
        let deadline = self.settings.answer_time.map(|time| Instant::now() + time);
        let has_python = task.tools.list.iter().any(|tool| tool.kind == ToolKind::Code);
        if let Some(new) = self.settings.python.as_ref().filter(|_| has_python) {
            let kept = previous.and_then(|previous| self.interpreters.take(owner, previous));
            answer.python = Some(Python {
                rounds: Rounds::new(task.clone()),
                interpreter: Some(kept.unwrap_or_else(|| new())),
                interpreters: Arc::clone(&self.interpreters),
                commands: self.commands.clone(),
                deadline,
                has_begun: false,
            });
        }
        let job = Job { task, events, cancelled, deadline, is_continued: false };
        self.commands.send(Command::Answer(job, admitted)).map_err(|_| ApiError::unavailable())?;
        verdict.await.map_err(|_| ApiError::unavailable())??;
        Ok(answer)
    }

    /// The tokens that a task's prompt has.
    pub async fn count(&self, task: Task) -> Result<usize> {
        let (reply, count) = oneshot::channel();
        self.commands.send(Command::Count(task, reply)).map_err(|_| ApiError::unavailable())?;
        count.await.map_err(|_| ApiError::unavailable())?
    }

    /// Reads a request, with what the store has of its conversation.
    pub async fn read(self: &Arc<Self>, owner: &Arc<str>, body: Value) -> Result<Request> {
        let (service, owner) = (Arc::clone(self), Arc::clone(owner));
        blocking(move || {
            let history = match previous_response_id(&body)? {
                None => Vec::new(),
                Some(id) => service.store.history(&owner, id).map_err(broken)?.ok_or_else(|| ApiError {
                    code: Some("previous_response_not_found"),
                    ..ApiError::invalid("previous_response_id", format!("There is no stored response {id:?}."))
                })?,
            };
            let item = |id: &str| service.store.item(&owner, id).ok().flatten();
            let has_python = service.settings.python.is_some();
            Request::read(
                &body,
                &Context { seal: &service.seal, owner: &owner, has_python, history: &history, item: &item },
            )
        })
        .await
    }

    /// The stored response.
    pub async fn stored(self: &Arc<Self>, owner: &Arc<str>, id: String) -> Result<Stored> {
        let (service, owner) = (Arc::clone(self), Arc::clone(owner));
        blocking(move || {
            let found = service.store.get(&owner, &id).map_err(broken)?;
            found.ok_or_else(|| ApiError::not_found(format!("There is no stored response {id:?}.")))
        })
        .await
    }

    /// Forgets the response.
    pub async fn delete(self: &Arc<Self>, owner: &Arc<str>, id: String) -> Result<()> {
        self.cancel(owner, &id);
        let (service, owner) = (Arc::clone(self), Arc::clone(owner));
        blocking(move || match service.store.delete(&owner, &id).map_err(broken)? {
            true => Ok(()),
            false => Err(ApiError::not_found(format!("There is no stored response {id:?}."))),
        })
        .await
    }

    /// Ends the response, if it is under way.
    pub fn cancel(&self, owner: &Arc<str>, id: &str) -> bool {
        let found = self.under_way().get(&(Arc::clone(owner), id.to_owned())).map(Arc::clone);
        found.inspect(|cancelled| cancelled.store(true, Ordering::Relaxed)).is_some()
    }

    /// Whether the response is under way.
    pub fn is_under_way(&self, owner: &Arc<str>, id: &str) -> bool {
        self.under_way().contains_key(&(Arc::clone(owner), id.to_owned()))
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what has become of a response.
    async fn keep(self: &Arc<Self>, id: &str, stored: Stored) {
        let (service, id) = (Arc::clone(self), id.to_owned());
        let kept = blocking(move || service.store.put(&id, &stored).map_err(broken)).await;
        if let Err(error) = kept {
            // The client has its answer; only what would go on from it is told.
            eprintln!("ossicle: {}", error.message);
        }
    }
}

/// A response under way.
pub struct Responding {
    service: Arc<Service>,
    owner: Arc<str>,
    id: String,
    answer: ResponseAnswer,
    events: Events,
    /// The input, if the response is stored.
    input: Option<Vec<Value>>,
    is_background: bool,
    has_begun: bool,
}

impl Responding {
    /// Puts the request in the queue.
    pub async fn begin(service: &Arc<Service>, owner: &Arc<str>, request: Request) -> Result<Self> {
        let id = new_id("resp");
        let previous = request.echo["previous_response_id"].as_str();
        let events = service.answer(request.task.clone(), (&id, previous), owner).await?;
        let presentation = Presentation {
            seal: Arc::clone(&service.seal),
            owner: Arc::clone(owner),
            encrypts_reasoning: request.include_encrypted,
            withholds_reasoning: service.settings.withhold_reasoning,
            clock: now,
        };
        let answer = ResponseAnswer::new(&request, &service.settings.model_name, id.clone(), presentation);
        service.under_way().insert((Arc::clone(owner), id.clone()), Arc::clone(&events.cancelled));
        let responding = Self {
            service: Arc::clone(service),
            owner: Arc::clone(owner),
            id,
            answer,
            events,
            input: request.store.then_some(request.input),
            is_background: request.background,
            has_begun: false,
        };
        if request.background {
            responding.keep().await;
        }
        Ok(responding)
    }

    /// The response as it is now.
    pub fn response(&self) -> Value {
        self.answer.response()
    }

    /// The next events; none when all has been told.
    pub async fn next(&mut self) -> Option<Vec<ServerEvent>> {
        let mut told = Vec::new();
        let mut emit = |event| told.push(event);
        if !self.has_begun {
            self.has_begun = true;
            self.answer.begin(self.is_background, &mut emit);
            return Some(told);
        }
        if self.answer.is_over() {
            return None;
        }
        let event = self.events.next().await;
        let is_begin = event == AnswerEvent::Begin;
        if matches!(&event, AnswerEvent::Stop { end: End::Failed(_), .. }) {
            self.service.metrics.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.answer.take(event, &mut emit);
        // What the last event tells can be retrieved by then.
        if self.answer.is_over() || is_begin && self.is_background {
            self.keep().await;
        }
        Some(told)
    }

    /// Carries the response to its end, whoever listens.
    pub async fn finish(mut self) -> Value {
        while self.next().await.is_some() {}
        self.response()
    }

    fn keep(&self) -> impl Future<Output = ()> + use<> {
        let (service, id) = (Arc::clone(&self.service), self.id.clone());
        let stored = self.input.as_ref().map(|input| {
            let (owner, response) = (self.owner.to_string(), self.response());
            Stored { owner, response, input: input.clone() }
        });
        async move {
            if let Some(stored) = stored {
                service.keep(&id, stored).await;
            }
        }
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.service.under_way().remove(&(Arc::clone(&self.owner), std::mem::take(&mut self.id)));
    }
}

/// Work that waits for a file, off the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |error: tokio::task::JoinError| Err(ApiError::server(error.to_string()));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

fn broken(error: redb::Error) -> ApiError {
    ApiError::server(format!("The store of responses failed: {error}"))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
