//! Questions by dig, over UDP and TCP.
