//! The streaming protocols of exec, attach and port-forward: WebSocket channels and SPDY/3.1.
