# SPDX-License-Identifier: Apache-2.0
# Completion of audit-enricher(1). Written by tools/gen_docs.py; changes here are lost.

_audit_enricher()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command="" index
    COMPREPLY=()
    # bash takes --option=value apart: "--option" "=" "value".
    if [[ $word == = ]]; then
        word=""
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
            run | record | replay | doctor | namespaces | schema | service | plugin | status | follow | check | verify | contid | exec | collect | fleet)
                command=${COMP_WORDS[index]}
                break
                ;;
        esac
    done
    case "$command $before" in
        "run --format" | "replay --format")
            mapfile -t COMPREPLY < <(compgen -W "table json text" -- "$word")
            return
            ;;
        "run --output" | "run --capture" | "run --config" | "record --config" | "replay --journal" | "replay --config" | "replay --output" | "namespaces --config" | "service --config" | "plugin --config" | "status --config" | "follow --config" | "check --config" | "verify --key" | "verify --make-key" | "contid --config" | "exec --config" | "collect --creds-file" | "collect --token-file" | "collect --password-file" | "collect --tls-ca-file" | "collect --tls-cert-file" | "collect --tls-key-file" | "fleet --hosts" | "fleet --creds-file" | "fleet --token-file" | "fleet --password-file" | "fleet --tls-ca-file" | "fleet --tls-cert-file" | "fleet --tls-key-file")
            compopt -o default
            return
            ;;
        "run --count" | "run --key" | "run --type" | "run --filter" | "run --for" | "run --ring-memory" | "run --receive-buffer" | "record --max-size" | "record --for" | "record --ring-memory" | "record --receive-buffer" | "replay --for" | "replay --count" | "replay --key" | "replay --type" | "replay --filter" | "namespaces --pid" | "namespaces --container" | "follow --count" | "follow --key" | "follow --type" | "follow --filter" | "contid --engine-id" | "contid --engine-name" | "contid --engine-image" | "contid --engine-runtime" | "exec --contid" | "collect --stream" | "collect --topic" | "collect --servers" | "collect --username" | "collect --lane" | "collect --batch-events" | "collect --batch-size" | "collect --interval" | "collect --lateness" | "collect --memory" | "fleet --stream" | "fleet --topic" | "fleet --replicas" | "fleet --max-age" | "fleet --max-size" | "fleet --max-message" | "fleet --window" | "fleet --partitions" | "fleet --min-in-sync" | "fleet --writer" | "fleet --reader" | "fleet --servers" | "fleet --username")
            return
            ;;
        "run --ns-changes" | "replay --ns-changes")
            mapfile -t COMPREPLY < <(compgen -W "containers all none" -- "$word")
            return
            ;;
        "run --hook" | "record --hook")
            mapfile -t COMPREPLY < <(compgen -W "auto audit_log_end audit_log_end.part.0 skb_queue_tail" -- "$word")
            return
            ;;
        "run --loader" | "record --loader")
            mapfile -t COMPREPLY < <(compgen -W "auto libbpf bcc" -- "$word")
            return
            ;;
        "namespaces --kind")
            mapfile -t COMPREPLY < <(compgen -W "mnt uts ipc net pid user cgroup time" -- "$word")
            return
            ;;
        "follow --format")
            mapfile -t COMPREPLY < <(compgen -W "table json" -- "$word")
            return
            ;;
        "collect --from")
            mapfile -t COMPREPLY < <(compgen -W "nats kafka" -- "$word")
            return
            ;;
        "collect --mechanism" | "fleet --mechanism")
            mapfile -t COMPREPLY < <(compgen -W "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN" -- "$word")
            return
            ;;
    esac
    case "$command" in
        "")
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --version" -- "$word")
            else
                mapfile -t COMPREPLY < <(compgen -W "run record replay doctor namespaces schema service plugin status follow check verify contid exec collect fleet" -- "$word")
            fi
            ;;
        run)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --format --output --count --key --type --filter --ns-changes --ns-lives --no-self --raw --capture --sinks --for --hook --loader --ring-memory --receive-buffer --config --verbose" -- "$word")
            fi
            ;;
        record)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --max-size --for --hook --loader --ring-memory --receive-buffer --config --verbose" -- "$word")
            else
                compopt -o default
            fi
            ;;
        replay)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --journal --sinks --for --config --format --output --count --key --type --filter --ns-changes --ns-lives --no-self --raw" -- "$word")
            else
                compopt -o default
            fi
            ;;
        doctor)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --json --no-load" -- "$word")
            fi
            ;;
        namespaces)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --kind --pid --container --no-network --json --config" -- "$word")
            fi
            ;;
        schema)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help" -- "$word")
            else
                mapfile -t COMPREPLY < <(compgen -W "events namespaces" -- "$word")
            fi
            ;;
        service)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --config" -- "$word")
            fi
            ;;
        plugin)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --config" -- "$word")
            fi
            ;;
        status)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --json --config" -- "$word")
            fi
            ;;
        follow)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --format --count --key --type --filter --no-self --config" -- "$word")
            fi
            ;;
        check)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --config --show" -- "$word")
            fi
            ;;
        verify)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --key --make-key" -- "$word")
            else
                compopt -o default
            fi
            ;;
        contid)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --orchestrator --bind-cgroup --engine-id --engine-name --engine-image --engine-runtime --json --config" -- "$word")
            else
                mapfile -t COMPREPLY < <(compgen -W "set get list grant revoke" -- "$word")
            fi
            ;;
        exec)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --contid --or-without --config" -- "$word")
            fi
            ;;
        collect)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --from --stream --topic --servers --username --mechanism --tls --creds-file --token-file --password-file --tls-ca-file --tls-cert-file --tls-key-file --lane --batch-events --batch-size --interval --lateness --memory --until-idle" -- "$word")
            else
                compopt -o default
            fi
            ;;
        fleet)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "-h --help --check --dry-run --update --hosts --stream --topic --replicas --max-age --max-size --max-message --window --partitions --min-in-sync --writer --reader --servers --username --mechanism --tls --creds-file --token-file --password-file --tls-ca-file --tls-cert-file --tls-key-file" -- "$word")
            else
                mapfile -t COMPREPLY < <(compgen -W "setup users" -- "$word")
            fi
            ;;
    esac
}

complete -F _audit_enricher audit-enricher
