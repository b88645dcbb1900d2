//! The calls into librdkafka. See lib.rs for the rules that each block keeps.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char, c_int},
    ptr::NonNull,
    slice,
    time::Duration,
};

use rdkafka::{
    ClientContext, bindings as rd,
    client::Client,
    types::{RDKafka, RDKafkaAdminOp, RDKafkaRespErr},
};

use crate::{Error, Topic};

/// Names that the library gives to its errors.
const UNKNOWN_TOPIC: &str = "UNKNOWN_TOPIC_OR_PART";
const DENIED: &str = "TOPIC_AUTHORIZATION_FAILED";
const NO_ERROR: &str = "NO_ERROR";
/// The library notices its own timeout first.
const GRACE: Duration = Duration::from_secs(1);

/// What the library handed out, freed when dropped.
struct Owned<T> {
    pointer: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `pointer` is null, or nobody else frees it and `free` is the library's function for that.
    unsafe fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self { pointer, free })
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by `new` it is ours to free, and this is the only place that does.
        unsafe { (self.free)(self.pointer.as_ptr()) }
    }
}

pub(crate) fn describe<C: ClientContext>(
    client: &Client<C>,
    names: &[CString],
    timeout: Duration,
) -> Result<BTreeMap<String, Topic>, Error> {
    let answer = ask(client.native_ptr(), names, timeout)?;
    // SAFETY: `answer` is an event and lives to the end of this function.
    let code = unsafe { rd::rd_kafka_event_error(answer.get()) };
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: as above; the text belongs to the event and is copied at once.
        let reason = unsafe { text(rd::rd_kafka_event_error_string(answer.get())) };
        return Err(Error::Request { code: code.into(), reason });
    }
    let mut topics = BTreeMap::new();
    for topic in described(&answer) {
        // SAFETY: `topic` belongs to `answer`.
        if let Some((name, topic)) = unsafe { read(*topic) }? {
            topics.insert(name, topic);
        }
    }
    Ok(topics)
}

/// Asks the brokers and waits for their answer, which may be an error.
fn ask(
    client: *mut RDKafka,
    names: &[CString],
    timeout: Duration,
) -> Result<Owned<rd::rd_kafka_event_t>, Error> {
    let failed = || Error::Request {
        code: rdkafka::error::RDKafkaErrorCode::Fail,
        reason: "the client for Kafka is out of memory".to_owned(),
    };
    // SAFETY: the client is alive as its owner is borrowed by our caller.
    let queue = unsafe { Owned::new(rd::rd_kafka_queue_new(client), rd::rd_kafka_queue_destroy) };
    let queue = queue.ok_or_else(failed)?;
    // SAFETY: as above.
    let options = unsafe {
        Owned::new(
            rd::rd_kafka_AdminOptions_new(client, RDKafkaAdminOp::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd::rd_kafka_AdminOptions_destroy,
        )
    };
    let options = options.ok_or_else(failed)?;
    // SAFETY: no place for an error's text is given, with its size of 0.
    let code = unsafe {
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options.get(),
            milliseconds(timeout),
            std::ptr::null_mut(),
            0,
        )
    };
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(Error::Request {
            code: code.into(),
            reason: format!("a timeout of {timeout:?} cannot be set"),
        });
    }
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: as many texts as said, alive; the library copies them.
    let wanted = unsafe {
        Owned::new(
            rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            rd::rd_kafka_TopicCollection_destroy,
        )
    };
    let wanted = wanted.ok_or_else(failed)?;
    // SAFETY: all four are alive; the library copies what it needs after the call.
    unsafe { rd::rd_kafka_DescribeTopics(client, wanted.get(), options.get(), queue.get()) };
    // SAFETY: the queue is alive; the event that it gives is ours.
    let answer = unsafe {
        Owned::new(
            rd::rd_kafka_queue_poll(queue.get(), milliseconds(timeout + GRACE)),
            rd::rd_kafka_event_destroy,
        )
    };
    answer.ok_or(Error::Timeout(timeout))
}

/// The descriptions within an answer; none if it is one of another kind.
fn described(answer: &Owned<rd::rd_kafka_event_t>) -> &[*const rd::rd_kafka_TopicDescription_t] {
    // SAFETY: the event is alive.
    let result = unsafe { rd::rd_kafka_event_DescribeTopics_result(answer.get()) };
    if result.is_null() {
        return &[];
    }
    let mut count = 0;
    // SAFETY: the result is the event itself, seen as one of its kind.
    let topics = unsafe { rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    // SAFETY: the library's list of so many pointers, which lives as long as the event.
    unsafe { list(topics, count) }
}

/// `None`: there is no such topic.
///
/// # Safety
/// `topic` is null, or belongs to an event that is alive.
unsafe fn read(topic: *const rd::rd_kafka_TopicDescription_t) -> Result<Option<(String, Topic)>, Error> {
    if topic.is_null() {
        return Ok(None);
    }
    // SAFETY: alive by the caller's promise; copied at once.
    let name = unsafe { text(rd::rd_kafka_TopicDescription_name(topic)) };
    // SAFETY: as above.
    let error = unsafe { rd::rd_kafka_TopicDescription_error(topic) };
    if !error.is_null() {
        // SAFETY: the error belongs to the topic. It is compared by name: a number unknown to the bindings would be
        // no value of their type.
        let code = unsafe { text(rd::rd_kafka_error_name(error)) };
        if code == UNKNOWN_TOPIC {
            return Ok(None);
        }
        if code == DENIED {
            return Err(Error::Denied { topic: name });
        }
        if code != NO_ERROR {
            // SAFETY: as above.
            let reason = unsafe { text(rd::rd_kafka_error_string(error)) };
            return Err(Error::Topic { topic: name, reason });
        }
    }
    // SAFETY: alive by the caller's promise; the id lies inside the topic.
    let id = unsafe { rd::rd_kafka_TopicDescription_topic_id(topic) };
    if id.is_null() {
        return Err(Error::Topic { topic: name, reason: "the broker tells no topic id".to_owned() });
    }
    // SAFETY: as above; the text is kept inside the id.
    let id = unsafe { text(rd::rd_kafka_Uuid_base64str(id)) };
    // Kafka's own tools print it with the other two signs.
    let id = id.replace('+', "-").replace('/', "_");
    // SAFETY: alive by the caller's promise.
    let partitions = unsafe { partitions(topic) };
    // SAFETY: they belong to the topic.
    let copies = partitions.iter().map(|partition| unsafe { copies(*partition) });
    let replication = count(copies.min().unwrap_or(0));
    // SAFETY: as above.
    let leaderless = partitions.iter().filter(|partition| unsafe { is_leaderless(**partition) });
    let leaderless = count(leaderless.count());
    Ok(Some((name, Topic { id, partitions: count(partitions.len()), replication, leaderless })))
}

/// # Safety
/// `topic` belongs to an event that is alive for `'a`.
unsafe fn partitions<'a>(
    topic: *const rd::rd_kafka_TopicDescription_t,
) -> &'a [*const rd::rd_kafka_TopicPartitionInfo_t] {
    let mut count = 0;
    // SAFETY: alive by the caller's promise.
    let partitions = unsafe { rd::rd_kafka_TopicDescription_partitions(topic, &raw mut count) };
    // SAFETY: the library's list of so many pointers, which lives as long as the topic.
    unsafe { list(partitions, count) }
}

/// # Safety
/// `partition` is null, or belongs to an event that is alive.
unsafe fn copies(partition: *const rd::rd_kafka_TopicPartitionInfo_t) -> usize {
    let mut count = 0;
    if !partition.is_null() {
        // SAFETY: by the caller's promise; of the list only the length is looked at.
        unsafe { rd::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut count) };
    }
    count
}

/// # Safety
/// `partition` is null, or belongs to an event that is alive.
unsafe fn is_leaderless(partition: *const rd::rd_kafka_TopicPartitionInfo_t) -> bool {
    // SAFETY: by the caller's promise.
    partition.is_null() || unsafe { rd::rd_kafka_TopicPartitionInfo_leader(partition) }.is_null()
}

/// # Safety
/// `first` is null, or points to `count` pointers that live for `'a`.
unsafe fn list<'a, T>(first: *mut *const T, count: usize) -> &'a [*const T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { slice::from_raw_parts(first, count) }
}

/// # Safety
/// `text` is null, or a C string that lives during the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn milliseconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}
