//! One run, from the first page of the source to its last.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_core::{Entropy, SystemEntropy};
use http::Method;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::{
    client::{Client, Patience},
    compare::Object,
    connection,
    error::Error,
    pages::{Pages, escaped},
    plan::{self, Endpoint, Missing, Step, with_uid},
    report::{Ended, Item, Kind, NotCopied, Summary, Told},
    server::{Server, Side, Token},
};

/// What is copied, where from and where to.
#[derive(Clone, Debug)]
pub struct Options {
    pub from: Server,
    pub from_token: Token,
    pub to: Server,
    pub to_token: Token,
    /// Trusted beside the public certificate authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// By id or uid; none: all of them.
    pub applications: Vec<String>,
    /// Endpoints are made disabled.
    pub disabled: bool,
    /// Nothing is written.
    pub dry_run: bool,
    pub patience: Patience,
}

/// Copies what the options say, and tells of each thing.
pub async fn run(options: Options, tell: impl FnMut(Told<'_>)) -> Ended {
    let Options { from, from_token, to, to_token, authorities, applications, disabled, dry_run, patience } =
        options;
    let tls = match connection::tls(&authorities) {
        Ok(tls) => tls,
        Err(error) => return Ended { summary: Summary::default(), error: Some(Error::Authority(error)) },
    };
    let source = Client::new(Side::Source, from, from_token, tls.clone(), patience);
    let target = Client::new(Side::Target, to, to_token, tls, patience);
    let mut mover = Mover {
        source,
        target,
        disabled,
        dry_run,
        has_transformations: true,
        summary: Summary::default(),
        tell,
    };
    let error = mover.all(&applications).await.err();
    Ended { summary: mover.summary, error }
}

struct Mover<T> {
    source: Client,
    target: Client,
    disabled: bool,
    dry_run: bool,
    /// Until the source turns out not to know of them.
    has_transformations: bool,
    summary: Summary,
    tell: T,
}

/// What became of a thing.
#[derive(Default)]
struct Done {
    is_new: bool,
    changed: Vec<String>,
    missing: Vec<Missing>,
}

/// An application at the target.
struct Place {
    /// In the source's paths.
    source: String,
    /// In the target's.
    target: String,
    uid: String,
    /// In a dry run: it would have been made just now.
    is_new: bool,
}

impl<T: FnMut(Told<'_>)> Mover<T> {
    async fn all(&mut self, applications: &[String]) -> Result<(), Error> {
        // Both, before anything is written: a token that is refused says so at once.
        for client in [&mut self.source, &mut self.target] {
            Pages::of("/app").next(client).await.map_err(|error| unlike_svix(client, error))?;
        }
        self.event_types().await?;
        if applications.is_empty() {
            let mut pages = Pages::of("/app?order=ascending");
            while let Some(page) = pages.next(&mut self.source).await? {
                for source in page {
                    self.application(source).await?;
                }
            }
            return Ok(());
        }
        for name in applications {
            match self.source.get(&format!("/app/{}", escaped(name))).await {
                Ok(source) => self.application(object(&self.source, source)?).await?,
                Err(error) => self.failed(Item { kind: Kind::Application, name: name.clone() }, error)?,
            }
        }
        Ok(())
    }

    async fn event_types(&mut self) -> Result<(), Error> {
        let mut pages = Pages::of("/event-type?include_archived=true&with_content=true");
        while let Some(page) = pages.next(&mut self.source).await? {
            for source in page {
                let Some(name) = source.get("name").and_then(Value::as_str) else {
                    return Err(self.source.not_compatible("an event type has no name"));
                };
                let item = Item { kind: Kind::EventType, name: name.to_owned() };
                let done = self.event_type(&format!("/event-type/{}", escaped(name)), &source).await;
                self.became(item, done)?;
            }
        }
        Ok(())
    }

    async fn event_type(&mut self, path: &str, source: &Object) -> Result<Done, Error> {
        let target = self.at_target(path).await?;
        let step = plan::event_type(source, target.as_ref());
        self.carry_out(path, step.into_iter().collect()).await
    }

    /// An application, and then its endpoints. Without the one there is no place for the others.
    async fn application(&mut self, source: Object) -> Result<(), Error> {
        let id = source.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let named = with_uid(source);
        let name = named.as_ref().map_or(&id, |(uid, _)| uid).clone();
        let item = Item { kind: Kind::Application, name };
        let made = match named {
            Ok((uid, wanted)) => self.one_application(&id, uid, &wanted).await,
            Err(error) => Err(error),
        };
        match made {
            Ok((done, place)) => {
                self.became(item, Ok(done))?;
                self.endpoints(&place).await
            }
            Err(error) => self.failed(item, error),
        }
    }

    async fn one_application(
        &mut self,
        id: &str,
        uid: String,
        wanted: &Object,
    ) -> Result<(Done, Place), Error> {
        let (path, target) = self.find("/app", &uid, id).await?;
        let steps = plan::application(wanted, target.as_ref()).into_iter().collect();
        let done = self.carry_out(&path, steps).await?;
        // It may be called otherwise from now on.
        let target = if self.dry_run { path } else { format!("/app/{}", escaped(&uid)) };
        let source = format!("/app/{}", escaped(id));
        let is_new = done.is_new && self.dry_run;
        Ok((done, Place { source, target, uid, is_new }))
    }

    /// What the target has under the uid; or under the id, by which it was called while it had no uid.
    async fn find(&mut self, list: &str, uid: &str, id: &str) -> Result<(String, Option<Object>), Error> {
        let path = format!("{list}/{}", escaped(uid));
        let mut found = (self.at_target(&path).await?, path.clone());
        if found.0.is_none() && id != uid {
            let path = format!("{list}/{}", escaped(id));
            found = (self.at_target(&path).await?, path);
        }
        match found {
            // Ids are made once.
            (Some(object), _) if object.get("id").and_then(Value::as_str) == Some(id) => Err(Error::Same),
            (Some(object), path) => Ok((path, Some(object))),
            (None, _) => Ok((path, None)),
        }
    }

    async fn at_target(&mut self, path: &str) -> Result<Option<Object>, Error> {
        let found = self.target.find(path).await?;
        found.map(|found| object(&self.target, found)).transpose()
    }

    async fn endpoints(&mut self, place: &Place) -> Result<(), Error> {
        let mut pages = Pages::of(format!("{}/endpoint?order=ascending", place.source));
        loop {
            let page = match pages.next(&mut self.source).await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(()),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    let item = Item { kind: Kind::Application, name: place.uid.clone() };
                    self.not_copied(NotCopied { item, reason: format!("not all of its endpoints: {error}") });
                    return Ok(());
                }
            };
            for source in page {
                let id = source.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                let named = with_uid(source);
                let uid = named.as_ref().map_or(&id, |(uid, _)| uid).clone();
                let item = Item { kind: Kind::Endpoint, name: format!("{}/{uid}", place.uid) };
                let done = match named {
                    Ok((uid, wanted)) => self.endpoint(place, &id, &uid, wanted).await,
                    Err(error) => Err(error),
                };
                self.became(item, done)?;
            }
        }
    }

    async fn endpoint(&mut self, place: &Place, id: &str, uid: &str, wanted: Object) -> Result<Done, Error> {
        let url = wanted.get("url").and_then(Value::as_str).unwrap_or_default();
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Error::Kind);
        }
        let path = format!("{}/endpoint/{}", place.source, escaped(id));
        let mut source = more_of(&mut self.source, &path, wanted).await?;
        source.is_transformed = self.is_transformed(&path).await?;

        let list = format!("{}/endpoint", place.target);
        let (path, target) = if place.is_new {
            (format!("{list}/{}", escaped(uid)), None)
        } else {
            self.find(&list, uid, id).await?
        };
        let target = match target {
            Some(fields) => Some(more_of(&mut self.target, &path, fields).await?),
            None => None,
        };
        let plan = plan::endpoint(&source, target.as_ref(), self.disabled);
        let mut done = self.carry_out(&path, plan.steps).await?;
        done.missing = plan.missing;
        Ok(done)
    }

    /// Whether the source changes messages before it sends them there. A server that does not know how has no such route.
    async fn is_transformed(&mut self, path: &str) -> Result<bool, Error> {
        if !self.has_transformations {
            return Ok(false);
        }
        let found = self.source.find(&format!("{path}/transformation")).await?;
        self.has_transformations = found.is_some();
        Ok(found.is_some_and(|transformation| transformation["enabled"] == true))
    }

    async fn carry_out(&mut self, path: &str, steps: Vec<Step>) -> Result<Done, Error> {
        let mut done = Done::default();
        for step in steps {
            let names = |fields: &Object| fields.keys().cloned().collect::<Vec<_>>();
            let (method, path, body, key) = match step {
                Step::Make(body) => {
                    done.is_new = true;
                    (Method::PUT, path.to_owned(), Value::Object(body), None)
                }
                Step::Change(body) => {
                    done.changed.extend(names(&body));
                    (Method::PATCH, path.to_owned(), Value::Object(body), None)
                }
                Step::Headers(headers) => {
                    done.changed.extend(names(&headers).iter().map(|name| format!("header {name}")));
                    (Method::PATCH, format!("{path}/headers"), json!({ "headers": headers }), None)
                }
                Step::Secret(secret) => {
                    done.changed.push("secret".to_owned());
                    let entropy: &dyn Entropy = &SystemEntropy;
                    let key = format!("move-in-{:016x}", entropy.u64());
                    (Method::POST, format!("{path}/secret/rotate"), json!({ "key": secret }), Some(key))
                }
            };
            if !self.dry_run {
                self.target.write(method, &path, &body, key.as_deref()).await?;
            }
        }
        Ok(done)
    }

    /// Counts and tells. An error that ends the run is passed on.
    fn became(&mut self, item: Item, done: Result<Done, Error>) -> Result<(), Error> {
        let done = match done {
            Ok(done) => done,
            Err(error) => return self.failed(item, error),
        };
        let counts = self.summary.counts(item.kind);
        if done.is_new {
            counts.made += 1;
            (self.tell)(Told::Made(&item));
        } else if done.changed.is_empty() {
            counts.equal += 1;
            (self.tell)(Told::Equal(&item));
        } else {
            counts.changed += 1;
            (self.tell)(Told::Changed(&item, &done.changed));
        }
        for missing in done.missing {
            self.not_copied(NotCopied { item: item.clone(), reason: missing.to_string() });
        }
        Ok(())
    }

    fn failed(&mut self, item: Item, error: Error) -> Result<(), Error> {
        if error.is_final() {
            return Err(error);
        }
        self.summary.counts(item.kind).failed += 1;
        self.not_copied(NotCopied { item, reason: error.to_string() });
        Ok(())
    }

    fn not_copied(&mut self, not_copied: NotCopied) {
        (self.tell)(Told::NotCopied(&not_copied));
        self.summary.note(not_copied);
    }
}

/// What an endpoint's own routes show beside its fields.
async fn more_of(client: &mut Client, path: &str, fields: Object) -> Result<Endpoint, Error> {
    let secret = client.get(&format!("{path}/secret")).await?;
    let Some(secret) = secret["key"].as_str() else {
        return Err(client.not_compatible("an endpoint's secret has no `key`"));
    };
    let shown = client.get(&format!("{path}/headers")).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let headers: Option<BTreeMap<String, String>> = shown["headers"].as_object().and_then(|headers| {
        headers.iter().map(|(name, value)| Some((name.to_ascii_lowercase(), text(value)?))).collect()
    });
    let hidden: Option<BTreeSet<String>> = match &shown["sensitive"] {
        Value::Array(names) => names.iter().map(|name| Some(text(name)?.to_ascii_lowercase())).collect(),
        _ => Some(BTreeSet::new()),
    };
    let (Some(headers), Some(hidden)) = (headers, hidden) else {
        return Err(client.not_compatible("an endpoint's headers are not `headers` and `sensitive`"));
    };
    Ok(Endpoint { fields, secret: secret.to_owned(), headers, hidden, is_transformed: false })
}

fn object(client: &Client, value: Value) -> Result<Object, Error> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(client.not_compatible("an answer is not an object")),
    }
}

/// Of the very first request.
fn unlike_svix(client: &Client, error: Error) -> Error {
    match error {
        Error::Answer { status, method, path, .. } => {
            client.not_compatible(format!("it answers {status} to {method} {path}; is the URL right?"))
        }
        error => error,
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Headers(names) => write!(
                f,
                "the source hides the value of {}: set it at the target, and start again to enable the endpoint",
                names.join(", ")
            ),
            Self::PrivateKey => f.write_str(
                "the source does not show its private ed25519 key: rotate to it at the target (`whsk_…`), and start \
                 again to enable the endpoint; or give its owner the new public key, and enable it",
            ),
            Self::Transformation => f.write_str(
                "the source transforms its messages, which Fanfare does not: it is made disabled, enable it when its \
                 receiver takes them as they are",
            ),
        }
    }
}
