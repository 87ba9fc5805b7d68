//! The examples in the help of each command.

pub(super) const BEGIN: &str = "Begin with:
  shoal demo                      three nodes on this machine show what there is
  shoal up                        run a node
  shoal publish ./my-model        give a folder to the world
  shoal fetch PUBLISHER/NAME      get it somewhere else";

pub(super) const UP: &str = "Examples:
  shoal up
  shoal up --peer /ip4/192.0.2.7/udp/4001/quic-v1
  shoal up --up 2M --down none --quota 500G --slots 4
  shoal up --listen /ip4/0.0.0.0/udp/4001/quic-v1 --http 127.0.0.1:0 --no-mdns --json";

pub(super) const PUBLISH: &str = "Examples:
  shoal publish ./my-model
  shoal publish ./my-model --name my-model --copy
  shoal publish ./texts --kind dataset";

pub(super) const IMPORT: &str = "Examples:
  shoal import ~/.cache/huggingface/hub --dry-run
  shoal import ~/.cache/huggingface/hub
  shoal import ~/.cache/huggingface/hub/models--meta--llama --name llama --all-revisions";

pub(super) const FETCH: &str = "Examples:
  shoal fetch meta/llama --to ./llama
  shoal fetch shoal:aeb... --to ./model
  shoal fetch meta/llama --include '*.safetensors' --include '*.json'
  shoal fetch meta/llama --hf-cache
  shoal fetch blake3/3fa9... --peer /ip4/192.0.2.7/udp/4001/quic-v1
  shoal fetch meta/llama --down 2M --wait 10m";

pub(super) const RUN: &str = "Examples:
  shoal run meta/llama \"Why is the sky blue?\"
  shoal run meta/llama --temperature 0 --max-tokens 64 --raw \"Once upon a time\"
  shoal run meta/all-MiniLM-L6-v2 \"a sentence\" --json
  shoal run meta/llama - < question.txt
  shoal run meta/llama";

pub(super) const VERIFY: &str = "Examples:
  shoal verify ./llama --proof llama.proof
  shoal verify meta/llama";

pub(super) const VALIDATE: &str = "Examples:
  shoal validate meta/llama
  shoal validate meta/llama --level numbers
  shoal validate meta/llama --memory 8G --json";

pub(super) const PROBE: &str = "Examples:
  shoal probe ./my-model
  shoal probe meta/llama --out probes.json";

pub(super) const ATTEST_LS: &str = "Examples:
  shoal attest ls
  shoal attest ls meta/llama --json";

pub(super) const ATTEST_EXPORT: &str = "Example:
  shoal attest export meta/llama --out llama.attestations";

pub(super) const ATTEST_IMPORT: &str = "Example:
  shoal attest import llama.attestations";

pub(super) const PROOF: &str = "Example:
  shoal proof meta/llama --out llama.proof";

pub(super) const LS: &str = "Examples:
  shoal ls
  shoal ls --json";

pub(super) const SEARCH: &str = "Examples:
  shoal search llama instruct --format gguf --max-size 8G
  shoal search --task sentence-similarity --license apache-2.0 --sort modified
  shoal search --base meta-llama/Llama-3.1-8B --sources
  shoal search bert --publisher meta --json";

pub(super) const SIMILAR: &str = "Example:
  shoal similar meta/llama";

pub(super) const SHOW: &str = "Example:
  shoal show meta/llama
  shoal show meta/llama --card";

pub(super) const TICKET: &str = "Example:
  shoal ticket meta/llama";

pub(super) const PIN: &str = "Example:
  shoal pin meta/llama";

pub(super) const FORGET: &str = "Example:
  shoal forget meta/llama";

pub(super) const COLLECT: &str = "Example:
  shoal collect";

pub(super) const FOLLOW: &str = "Examples:
  shoal follow 8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo --as meta
  shoal fetch meta/llama
  shoal follow 8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo --as meta --mirror --quota 500GB
  shoal follow 8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo --as meta --mirror 'llama-*'";

pub(super) const UNFOLLOW: &str = "Example:
  shoal unfollow meta";

pub(super) const FOLLOWING: &str = "Examples:
  shoal following
  shoal following --json";

pub(super) const DENY: &str = "Examples:
  shoal deny meta/llama --reason \"not what it says\"
  shoal deny blob:3fa9... --for 30d
  shoal deny publisher:meta
  shoal deny --list 8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo/denylist";

pub(super) const ALLOW: &str = "Examples:
  shoal allow meta/llama
  shoal allow --list meta/denylist";

pub(super) const DENIED: &str = "Examples:
  shoal denied
  shoal denied --all --json";

pub(super) const ID: &str = "Examples:
  shoal id
  shoal id --json
  shoal id rotate
  export HF_TOKEN=$(shoal id --token)";

pub(super) const ROTATE: &str = "Examples:
  shoal id rotate
  shoal id rotate --recovery /media/usb/recovery.key --yes";

pub(super) const RECOVER: &str = "Examples:
  shoal id recover /media/usb/recovery.key
  shoal id recover recovery.key --publisher 8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo --yes";

pub(super) const REVOKE: &str = "Examples:
  shoal id revoke --reason compromised
  shoal id revoke 8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo --reason superseded --recovery /media/usb/recovery.key --yes";

pub(super) const PEERS: &str = "Example:
  shoal peers";

pub(super) const STATUS: &str = "Example:
  shoal status --json";

pub(super) const DOCTOR: &str = "Examples:
  shoal doctor
  shoal doctor --json";

pub(super) const JOBS: &str = "Examples:
  shoal jobs
  shoal jobs --peers
  shoal jobs pause all";

pub(super) const PAUSE: &str = "Examples:
  shoal jobs pause 3
  shoal jobs pause all";

pub(super) const RESUME: &str = "Examples:
  shoal jobs resume 3
  shoal jobs resume all";

pub(super) const CANCEL: &str = "Examples:
  shoal jobs cancel 3
  shoal jobs cancel all";

pub(super) const LIMIT: &str = "Examples:
  shoal limit
  shoal limit --up 2M --peer-up 512K
  shoal limit --up none --down none";

pub(super) const COMPLETIONS: &str = "Examples:
  shoal completions bash > ~/.local/share/bash-completion/completions/shoal
  shoal completions zsh > ~/.zfunc/_shoal
  shoal completions fish > ~/.config/fish/completions/shoal.fish";

pub(super) const DEMO: &str = "Examples:
  shoal demo
  shoal demo ./my-model";

pub(super) const REBUILD: &str = "Example:
  shoal catalog rebuild";
