//! Listening, and ending.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Notify, Semaphore};

use crate::metrics::Metrics;
use crate::routes::router;
use crate::service::Service;
use crate::settings::Settings;
use crate::store::Store;
use crate::worker::{Command, Engine, WorkerError, work};

/// A server that listens already, and answers once it runs.
pub struct Server {
    settings: Settings,
    listener: TcpListener,
    stop: Stop,
}

/// Ends a server, from any thread.
#[derive(Clone, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Lets answers under way go on for some seconds; no others begin.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// Why a server could not run.
#[derive(Debug)]
pub enum ServerError {
    /// The operating system refused something.
    Io(io::Error),
    /// The file of responses could not be used.
    Store(Box<redb::Error>),
    /// The model could not be run.
    Worker(WorkerError),
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Store(error) => write!(f, "the store of responses: {error}"),
            Self::Worker(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<redb::Error> for ServerError {
    fn from(error: redb::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

/// How long the tools of a conversation are kept that nobody goes on with, and how often that is looked at.
const KEPT_FOR: Duration = Duration::from_secs(600);
const EXPIRY: Duration = Duration::from_secs(30);

/// How long clients may take to read how their answers ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// If it is not to be had.
    pub fn bind(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { settings, listener, stop: Stop::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the operating system has them.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves with this model, on this thread, until it is stopped.
    ///
    /// # Errors
    /// [`ServerError`] if it cannot begin.
    pub fn run(self, engine: Engine<'_>) -> Result<(), ServerError> {
        let Self { settings, listener, stop } = self;
        let store = match &settings.store {
            Some(path) => Store::open(path, settings.store_size)?,
            None => Store::in_memory(settings.store_size)?,
        };
        let (sender, commands) = std::sync::mpsc::channel();
        let metrics = Arc::new(Metrics::default());
        let (connections, grace) = (settings.connections, settings.grace);
        let service = Arc::new(Service::new(settings, sender.clone(), store, Arc::clone(&metrics))?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            // Policies, tools and files are waited for.
            .max_blocking_threads(256)
            .thread_name("ossicle-http")
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let expiring = Arc::clone(&service);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(EXPIRY).await;
                let expiring = Arc::clone(&expiring);
                let _ = tokio::task::spawn_blocking(move || expiring.shelf.expire(KEPT_FOR)).await;
            }
        });
        let serving = runtime.spawn(async move {
            let open = listen(listener, router(Arc::clone(&service)), connections, stop).await;
            let mut ended = std::pin::pin!(async {
                open.shutdown().await;
                // Those that nobody waits for come to an end too.
                while service.is_busy() {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            });
            if tokio::time::timeout(grace, &mut ended).await.is_err() {
                // What is still being answered ends with a word about it.
                service.is_stopping.store(true, Ordering::Relaxed);
                let _ = tokio::time::timeout(LAST_WORDS, ended).await;
            }
            let _ = sender.send(Command::Stop);
        });
        let result = work(engine, commands, &metrics);
        if result.is_ok() {
            let _ = runtime.block_on(serving);
        }
        runtime.shutdown_timeout(LAST_WORDS);
        result.map_err(ServerError::Worker)
    }
}

/// Takes connections until it is stopped. Returns those that are open then.
async fn listen(listener: tokio::net::TcpListener, router: Router, connections: usize, stop: Stop) -> GracefulShutdown {
    let mut http = http1::Builder::new();
    // Neither a header that never ends nor an idle connection is kept for long.
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    let room = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async { (Arc::clone(&room).acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = stop.0.notified() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, as a rule.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // A connection that breaks is its client's business.
            let _ = watched.await;
            drop(place);
        });
    }
    graceful
}
