//! A virtual host of the test's own, made over RabbitMQ's management API.

use events::amqp::Broker;
use lapin::Connection;
use lapin::uri::AMQPUri;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::setting;

/// An empty virtual host that goes when this is dropped.
#[derive(Debug, Clone)]
pub struct Vhost {
    name: String,
    management: String,
    user: String,
    password: String,
    pub url: String,
}

impl Vhost {
    /// Makes the virtual host.
    pub async fn create() -> Self {
        let server = setting("AMQP_URL");
        let uri: AMQPUri = server.parse().expect("AMQP_URL is an AMQP URL");
        let name = format!("rookery-test-{}", Uuid::now_v7().simple());
        let userinfo = uri.authority.userinfo;
        let (user, password) = (userinfo.username, userinfo.password);
        let (host, port) = (uri.authority.host, uri.authority.port);
        let vhost = Self {
            url: format!("amqp://{user}:{password}@{host}:{port}/{name}"),
            management: setting("RABBITMQ_UI"),
            name,
            user,
            password,
        };
        vhost.call(Method::PUT, &format!("vhosts/{}", vhost.name), json!({})).await;
        let permissions = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("permissions/{}/{}", vhost.name, vhost.user);
        vhost.call(Method::PUT, &path, permissions).await;
        vhost
    }

    /// A connection to it.
    pub async fn connect(&self) -> Connection {
        let broker = Broker::parse(&self.url).expect("its URL is well-formed");
        broker.connect("rookery test").await.expect("RabbitMQ answers")
    }

    /// Does to `queue` what a person does in the RabbitMQ UI.
    pub async fn purge(&self, queue: &str) {
        let path = format!("queues/{}/{queue}/contents", self.name);
        self.call(Method::DELETE, &path, Value::Null).await;
    }

    /// Deletes `queue`.
    pub async fn delete_queue(&self, queue: &str) {
        self.call(Method::DELETE, &format!("queues/{}/{queue}", self.name), Value::Null).await;
    }

    /// Deletes `exchange`.
    pub async fn delete_exchange(&self, exchange: &str) {
        self.call(Method::DELETE, &format!("exchanges/{}/{exchange}", self.name), Value::Null)
            .await;
    }

    /// The messages in `queue`, as the broker counts them now.
    pub async fn depth(&self, queue: &str) -> Option<u32> {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.expect("a channel opens");
        let found = events::amqp::queue(&channel, queue).await.expect("RabbitMQ answers");
        let depth = found.map(|queue| queue.messages);
        connection.close(200, "done".into()).await.expect("the connection closes");
        depth
    }

    async fn call(&self, method: Method, path: &str, body: Value) {
        let answer = Client::new()
            .request(method, format!("{}/api/{path}", self.management))
            .basic_auth(&self.user, Some(&self.password))
            .json(&body)
            .send()
            .await
            .expect("RabbitMQ's management plugin answers");
        let status = answer.status();
        assert!(status.is_success() || status == StatusCode::NOT_FOUND, "{path}: {status}");
    }

    /// Removes it. Called by the owner, because dropping cannot wait.
    pub async fn remove(&self) {
        self.call(Method::DELETE, &format!("vhosts/{}", self.name), Value::Null).await;
    }
}
