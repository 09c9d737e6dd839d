//! What the routes share: the model's thread, the store, and the answers under way.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ossicle_host::policy::{Held, Next, Origin, Subject};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::answer::{AnswerEvent, End, Presentation, ResponseAnswer, ServerEvent};
use crate::builtin::{BuiltIn, Shelf};
use crate::error::ApiError;
use crate::gated::{Answer, Guard};
use crate::judge::ModelGate;
use crate::metrics::Metrics;
use crate::request::{BuiltInTools, Context, Request, Task, previous_response_id};
use crate::rounds::Rounds;
use crate::seal::{Seal, new_id};
use crate::settings::Settings;
use crate::store::{Store, Stored};
use crate::worker::{Command, Job, Wanted};

/// How far a client may fall behind, in events. Then it is given up: an answer must not fill the memory.
const EVENTS_BEHIND: usize = 16_384;

/// The responses under way, by owner and id.
type UnderWay = HashMap<(Arc<str>, String), Marks>;

/// What others want of a response under way.
#[derive(Clone)]
struct Marks {
    /// That it ends.
    cancelled: Arc<AtomicBool>,
    /// That nothing is kept of it.
    deleted: Arc<AtomicBool>,
}

/// What the routes share.
pub struct Service {
    pub settings: Settings,
    pub metrics: Arc<Metrics>,
    pub seal: Arc<Seal>,
    /// When the server began, in seconds since 1970.
    pub begun: u64,
    /// The tools of conversations that may go on.
    pub shelf: Shelf,
    /// Set when answers under way have to end.
    pub is_stopping: Arc<AtomicBool>,
    guard: Guard,
    commands: std::sync::mpsc::Sender<Command>,
    store: Arc<Store>,
    under_way: Mutex<UnderWay>,
}

type Result<T> = std::result::Result<T, ApiError>;

/// Carries out the calls of an answer, and queues what follows.
struct Calls {
    service: Arc<Service>,
    rounds: Rounds,
    /// What they are carried out with, once there was one.
    tools: Option<BuiltIn>,
    /// The answer that this one goes on from.
    previous: Option<String>,
    /// Whether one is to be carried out now.
    is_due: bool,
    /// The events of a round but the first have a beginning that is not the answer's.
    has_begun: bool,
}

/// An answer's id, and who asked for it.
#[derive(Clone)]
struct Asked {
    id: String,
    owner: Arc<str>,
}

impl Asked {
    fn origin(&self) -> Origin<'_> {
        Origin { request: &self.id, client: Some(&self.owner) }
    }

    fn answer<'a>(&'a self, wanted: &'a Wanted, has_begun: bool) -> Answer<'a> {
        Answer { origin: self.origin(), wanted, has_begun }
    }
}

/// Events of an answer, in the order in which they come. Dropped, the answer ends.
pub struct Events {
    receiver: mpsc::Receiver<AnswerEvent>,
    wanted: Wanted,
    guard: Guard,
    /// How the answer goes on after the model has called a tool that the server has.
    calls: Option<Calls>,
    /// The request and whose it is, for the log.
    request: Asked,
    /// A message that has to be judged when it is whole.
    held: Held<AnswerEvent>,
    /// Events that have been judged.
    ready: VecDeque<AnswerEvent>,
}

impl Drop for Events {
    fn drop(&mut self) {
        // In this order: that nobody listens is told apart from an end that somebody asked for.
        self.receiver.close();
        self.wanted.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Events {
    /// The next event. Where the model's thread is gone, a failure.
    pub async fn next(&mut self) -> AnswerEvent {
        let event = self.next_of_answer().await;
        if let AnswerEvent::Stop { end, usage } = &event {
            self.guard.ended(self.request.origin(), end, *usage);
        }
        event
    }

    /// The tools that calls were carried out with, if there were any.
    fn tools(&mut self) -> Option<BuiltIn> {
        self.calls.as_mut()?.tools.take()
    }

    /// The same, of all rounds.
    async fn next_of_answer(&mut self) -> AnswerEvent {
        loop {
            if let Some(calls) = self.calls.as_mut().filter(|calls| calls.is_due) {
                calls.is_due = false;
                let usage = calls.rounds.usage();
                return match self.carry_out().await {
                    Ok(result) => result,
                    Err(end) => AnswerEvent::Stop { end, usage },
                };
            }
            let mut event = self.next_of_round().await;
            let Some(calls) = &mut self.calls else { return event };
            if event == AnswerEvent::Begin && std::mem::replace(&mut calls.has_begun, true) {
                continue;
            }
            calls.rounds.observe(&event);
            let AnswerEvent::Stop { end, usage } = &mut event else { return event };
            calls.rounds.add(*usage);
            *usage = calls.rounds.usage();
            if *end == End::Completed && calls.rounds.call().is_some() {
                if calls.rounds.is_used_up() {
                    *end = End::Length;
                    return event;
                }
                calls.is_due = true;
                return AnswerEvent::ToolBegin;
            }
            return event;
        }
    }

    /// Carries out the call that the round ended with, and begins the next. What it was answered with, or why there is no
    /// further round.
    async fn carry_out(&mut self) -> std::result::Result<AnswerEvent, End> {
        let Some(calls) = &mut self.calls else { return Err(End::Completed) };
        let Some((recipient, argument)) = calls.rounds.call() else { return Err(End::Completed) };
        let (recipient, argument) = (recipient.to_owned(), argument.to_owned());
        let shelf = &calls.service.shelf;
        let permit = shelf.permit(&recipient, &self.wanted).await?;
        let kept = || shelf.take(&self.request.owner, calls.previous.as_deref()?);
        let tools = calls.tools.take().or_else(kept);
        let mut tools = tools.unwrap_or_else(|| BuiltIn::new(&calls.service.settings, &calls.rounds.pages()));
        let domains = calls.rounds.domains().to_vec();
        let (guard, request, wanted) = (self.guard.clone(), self.request.clone(), self.wanted.clone());
        let called = blocking(move || {
            let (text, sources) = tools.call((&recipient, &argument), &domains, &wanted);
            let subject = Subject::ToolResult { tool: &recipient, text: &text };
            let judged = match wanted.end() {
                None => guard.judge(request.answer(&wanted, true), &subject),
                Some(end) => Err(end),
            };
            // Only now, even if nobody waits for it any more.
            drop(permit);
            let passed = judged.map(|other| match other {
                None => (text, sources),
                Some(other) => (other, Vec::new()),
            });
            Ok((tools, passed))
        });
        let (tools, passed) = called.await.map_err(End::Failed)?;
        calls.tools = Some(tools);
        let (text, sources) = passed?;
        let task = calls.rounds.next(text.clone());
        let (events, receiver) = mpsc::channel(EVENTS_BEHIND);
        let job = Job { task, events, wanted: self.wanted.clone(), is_continued: true };
        let (admitted, verdict) = oneshot::channel();
        let unavailable = || End::Failed(ApiError::unavailable());
        calls.service.commands.send(Command::Answer(job, admitted)).map_err(|_| unavailable())?;
        verdict.await.map_err(|_| unavailable())?.map_err(|error| match error.code {
            // What the tool said fills the context.
            Some("context_length_exceeded") => End::Length,
            _ => End::Failed(error),
        })?;
        self.receiver = receiver;
        Ok(AnswerEvent::ToolResult { text, sources })
    }

    /// The same, of this round alone.
    async fn next_of_round(&mut self) -> AnswerEvent {
        loop {
            let event = match self.ready.pop_front() {
                Some(event) => event,
                None => match self.receive().await {
                    event if !self.guard.judges() => event,
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

    async fn judge(&mut self, message: Held<AnswerEvent>) {
        let (guard, request, wanted) = (self.guard.clone(), self.request.clone(), self.wanted.clone());
        let permit = match guard.permit(&wanted).await {
            Ok(permit) => permit,
            Err(end) => return self.stop(end).await,
        };
        let judged = blocking(move || {
            let judged = guard.judge(request.answer(&wanted, true), &message.subject());
            drop(permit);
            Ok(judged.map(|other| match other {
                None => message.release(),
                Some(text) => message.replace(text),
            }))
        });
        match judged.await.map_err(End::Failed).flatten() {
            Ok(events) => self.ready.extend(events),
            Err(end) => self.stop(end).await,
        }
    }

    /// Ends the answer, with what it took until then.
    async fn stop(&mut self, end: End) {
        self.wanted.cancelled.store(true, Ordering::Relaxed);
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
        mut settings: Settings,
        commands: std::sync::mpsc::Sender<Command>,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<Self, redb::Error> {
        let seal = Arc::new(Seal::new(&store.key()?));
        let is_stopping = Arc::<AtomicBool>::default();
        let model = settings.model_policy.take().map(|policy| ModelGate::new(policy, commands.clone()));
        let guard = Guard::new(std::mem::take(&mut settings.policy), model);
        Ok(Self {
            settings,
            guard,
            metrics,
            seal,
            begun: now(),
            shelf: Shelf::default(),
            is_stopping,
            commands,
            store: Arc::new(store),
            under_way: Mutex::default(),
        })
    }

    /// Puts a task in the queue, if the policy lets it pass; `id` is that of the answer.
    pub async fn answer(
        self: &Arc<Self>,
        mut task: Task,
        (id, previous): (&str, Option<&str>),
        owner: &Arc<str>,
    ) -> Result<Events> {
        self.metrics.requests.fetch_add(1, Ordering::Relaxed);
        let (events, receiver) = mpsc::channel(EVENTS_BEHIND);
        let wanted = Wanted {
            cancelled: Arc::default(),
            deadline: self.settings.answer_time.map(|time| Instant::now() + time),
            is_stopping: Arc::clone(&self.is_stopping),
        };
        let guard = self.guard.clone();
        let mut answer = Events {
            receiver,
            wanted: wanted.clone(),
            guard: guard.clone(),
            calls: None,
            request: Asked { id: id.to_owned(), owner: Arc::clone(owner) },
            held: Held::default(),
            ready: VecDeque::new(),
        };
        if guard.judges() {
            // A judgement may take long, and what cannot be answered needs none.
            let (reply, considered) = oneshot::channel();
            self.commands.send(Command::Consider(task, reply)).map_err(|_| ApiError::unavailable())?;
            let mut considered = considered.await.map_err(|_| ApiError::unavailable())??;
            let judged = match guard.permit_request(&wanted).await {
                Err(end) => Err(end),
                Ok(permit) => {
                    let (request, wanted) = (answer.request.clone(), wanted.clone());
                    blocking(move || {
                        let judged = guard.judge_task(request.answer(&wanted, false), &mut considered);
                        drop(permit);
                        Ok(judged.map(|()| considered))
                    })
                    .await?
                }
            };
            task = match judged {
                Ok(task) => task,
                Err(End::Failed(error)) => return Err(error),
                Err(end) => {
                    let _ = events.try_send(AnswerEvent::Stop { end, usage: Default::default() });
                    return Ok(answer);
                }
            };
        }
        if task.tools.list.iter().any(|tool| tool.kind.is_built_in()) {
            answer.calls = Some(Calls {
                service: Arc::clone(self),
                rounds: Rounds::new(task.clone()),
                tools: None,
                previous: previous.map(str::to_owned),
                is_due: false,
                has_begun: false,
            });
        }
        let (admitted, verdict) = oneshot::channel();
        let job = Job { task, events, wanted, is_continued: false };
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
                // Looked at before the store: what is not under way then is there whole.
                Some(id) if service.is_under_way(&owner, id) => {
                    let message = format!("The response {id:?} is not complete yet.");
                    return Err(ApiError::invalid("previous_response_id", message));
                }
                Some(id) => service.store.history(&owner, id).map_err(broken)?.ok_or_else(|| ApiError {
                    code: Some("previous_response_not_found"),
                    ..ApiError::invalid("previous_response_id", format!("There is no stored response {id:?}."))
                })?,
            };
            let items_size = service.settings.body_size;
            let context = Context {
                seal: &service.seal,
                owner: &owner,
                built_in: BuiltInTools {
                    python: service.settings.python.is_some(),
                    browser: service.settings.browser.is_some(),
                },
                history: &history,
                items: &|ids| service.store.items(&owner, ids, items_size).unwrap_or_default(),
                items_size,
            };
            Request::read(&body, &context)
        })
        .await
    }

    /// The stored response.
    pub async fn stored(self: &Arc<Self>, owner: &Arc<str>, id: String) -> Result<Stored> {
        let (service, owner) = (Arc::clone(self), Arc::clone(owner));
        blocking(move || {
            // Looked at before the store: what is not under way then is there whole, or never will be.
            let is_under_way = service.is_under_way(&owner, &id);
            let found = service.store.get(&owner, &id).map_err(broken)?;
            let mut found = found.ok_or_else(|| no_response(&id))?;
            let is_unfinished = ["queued", "in_progress"].iter().any(|status| found.response["status"] == *status);
            if is_unfinished && !is_under_way {
                let message = "The server stopped before the response was complete.";
                found.response["status"] = "failed".into();
                found.response["error"] = json!({ "code": "server_error", "message": message });
            }
            Ok(found)
        })
        .await
    }

    /// Forgets the response, and ends it, if it is under way.
    pub async fn delete(self: &Arc<Self>, owner: &Arc<str>, id: String) -> Result<()> {
        let marks = self.marks(owner, &id);
        if let Some(marks) = &marks {
            marks.deleted.store(true, Ordering::SeqCst);
            marks.cancelled.store(true, Ordering::Relaxed);
        }
        let (service, owner) = (Arc::clone(self), Arc::clone(owner));
        blocking(move || {
            let was_stored = service.store.delete(&owner, &id).map_err(broken)?;
            service.shelf.forget(&owner, &id);
            if was_stored || marks.is_some() { Ok(()) } else { Err(no_response(&id)) }
        })
        .await
    }

    /// Ends the response, if it is under way.
    pub fn cancel(&self, owner: &Arc<str>, id: &str) -> bool {
        self.marks(owner, id).inspect(|marks| marks.cancelled.store(true, Ordering::Relaxed)).is_some()
    }

    /// Whether the response is under way.
    pub fn is_under_way(&self, owner: &Arc<str>, id: &str) -> bool {
        self.marks(owner, id).is_some()
    }

    /// Whether any response is under way.
    pub fn is_busy(&self) -> bool {
        !self.under_way().is_empty()
    }

    fn marks(&self, owner: &Arc<str>, id: &str) -> Option<Marks> {
        self.under_way().get(&(Arc::clone(owner), id.to_owned())).cloned()
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what has become of a response, unless it is deleted.
    async fn keep(self: &Arc<Self>, id: &str, stored: Stored, deleted: Arc<AtomicBool>) {
        let (service, id) = (Arc::clone(self), id.to_owned());
        let kept = blocking(move || {
            if deleted.load(Ordering::SeqCst) {
                return Ok(());
            }
            service.store.put(&id, &stored).map_err(broken)?;
            // It may have been deleted meanwhile.
            if deleted.load(Ordering::SeqCst) {
                service.store.delete(&stored.owner, &id).map_err(broken)?;
            }
            Ok(())
        });
        if let Err(error) = kept.await {
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
    marks: Marks,
    /// The response that it goes on from.
    previous: Option<String>,
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
        let marks = Marks { cancelled: Arc::clone(&events.wanted.cancelled), deleted: Arc::default() };
        service.under_way().insert((Arc::clone(owner), id.clone()), marks.clone());
        let responding = Self {
            service: Arc::clone(service),
            owner: Arc::clone(owner),
            id,
            answer,
            events,
            marks,
            previous: previous.map(str::to_owned),
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
        if self.answer.is_over() {
            self.end().await;
        } else if is_begin && self.is_background {
            self.keep().await;
        }
        Some(told)
    }

    /// Carries the response to its end, whoever listens.
    ///
    /// # Errors
    /// What the response failed with.
    pub async fn finish(mut self) -> Result<Value> {
        while self.next().await.is_some() {}
        self.answer.failure().map_or_else(|| Ok(self.response()), |error| Err(error.clone()))
    }

    /// Keeps what the conversation goes on with. What the last event tells can be retrieved by then.
    async fn end(&mut self) {
        self.keep().await;
        let shelf = &self.service.shelf;
        if self.input.is_some() {
            match (self.events.tools(), &self.previous) {
                (Some(tools), _) => shelf.keep(&self.owner, &self.id, tools),
                (None, Some(previous)) => shelf.follow(&self.owner, previous, &self.id),
                (None, None) => {}
            }
            if self.marks.deleted.load(Ordering::SeqCst) {
                shelf.forget(&self.owner, &self.id);
            }
        }
        self.leave();
    }

    /// It is not under way any more.
    fn leave(&self) {
        self.service.under_way().remove(&(Arc::clone(&self.owner), self.id.clone()));
    }

    fn keep(&self) -> impl Future<Output = ()> + use<> {
        let (service, id, deleted) = (Arc::clone(&self.service), self.id.clone(), Arc::clone(&self.marks.deleted));
        let stored = self.input.as_ref().map(|input| {
            let (owner, response) = (self.owner.to_string(), self.response());
            Stored { owner, response, input: input.clone() }
        });
        async move {
            if let Some(stored) = stored {
                service.keep(&id, stored, deleted).await;
            }
        }
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Work that takes its time, off the threads that serve.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        // What it panicked with is nothing for clients.
        eprintln!("ossicle: {error}");
        Err(ApiError::server("The server failed."))
    })
}

fn no_response(id: &str) -> ApiError {
    ApiError::not_found(format!("There is no stored response {id:?}."))
}

fn broken(error: redb::Error) -> ApiError {
    ApiError::server(format!("The store of responses failed: {error}"))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::Service;
    use crate::settings::Settings;
    use crate::store::{Store, Stored};

    #[test]
    fn what_was_not_finished_when_the_server_ended_has_failed() {
        let store = Store::in_memory(1 << 20).expect("a store");
        for status in ["queued", "in_progress", "completed"] {
            let response = json!({ "status": status, "output": [] });
            store.put(status, &Stored { owner: "".into(), response, input: Vec::new() }).expect("room");
        }
        let (commands, _) = std::sync::mpsc::channel();
        let service = Arc::new(Service::new(Settings::default(), commands, store, Arc::default()).expect("a service"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let status = |id: &str| {
            let stored = runtime.block_on(service.stored(&"".into(), id.to_owned()));
            stored.expect("stored").response["status"].clone()
        };
        assert_eq!(["queued", "in_progress", "completed"].map(status), ["failed", "failed", "completed"]);
    }
}
