// The program in the images of the node rig: it does what its arguments say, one after the other, and tells what it sees in lines of JSON.
// An argument is `what:value`; `steps` below has them all. Without an argument it tells everything and ends.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// tell writes one line of JSON: what it is and what was seen.
func tell(what string, value any) {
	line, err := json.Marshal(map[string]any{"what": what, "value": value})
	if err != nil {
		fail("tell %s: %v", what, err)
	}
	os.Stdout.Write(append(line, '\n'))
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(99)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fail("%q is not a number", text)
	}
	return value
}

var signals = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1,
	"USR2": syscall.SIGUSR2, "KILL": syscall.SIGKILL, "ABRT": syscall.SIGABRT, "SEGV": syscall.SIGSEGV,
}

func nameOf(received os.Signal) string {
	for name, value := range signals {
		if value == received {
			return name
		}
	}
	return received.String()
}

var steps = map[string]func(value string){
	// everything, or the parts that are named: report:env,ids
	"report": report,
	// what is below folders
	"tree": func(value string) {
		for _, folder := range strings.Split(value, ",") {
			tell("tree "+folder, tree(folder))
		}
	},
	"cat": func(value string) {
		content, err := os.ReadFile(value)
		if err != nil {
			tell("cat "+value, err.Error())
			return
		}
		tell("cat "+value, string(content))
	},
	// texts as they are, with escapes of Go
	"out": func(value string) { io.WriteString(os.Stdout, unquoted(value)) },
	"err": func(value string) { io.WriteString(os.Stderr, unquoted(value)) },
	// a line of so many letters; so many numbered lines
	"long": func(value string) {
		letters := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", number(value)/36+1)
		io.WriteString(os.Stdout, letters[:number(value)]+"\n")
	},
	"lines": func(value string) {
		out := bufio.NewWriter(os.Stdout)
		for at := range number(value) {
			fmt.Fprintf(out, "line %d\n", at)
		}
		out.Flush()
	},
	// milliseconds
	"sleep": func(value string) { time.Sleep(time.Duration(number(value)) * time.Millisecond) },
	"stay": func(string) {
		for {
			time.Sleep(time.Hour)
		}
	},
	"exit": func(value string) { os.Exit(number(value)) },
	"kill": func(value string) {
		// what Go does at a crash would be written to the log
		var byDefault [32]byte
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(signals[value]), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
		syscall.Kill(os.Getpid(), signals[value])
		time.Sleep(time.Second)
	},
	// signals that are told and change nothing; the first of these others ends the program: end:TERM=7
	"catch": func(value string) { catch(strings.Split(value, ","), nil) },
	"end": func(value string) {
		name, code, _ := strings.Cut(value, "=")
		code, after, _ := strings.Cut(code, "@")
		catch([]string{name}, func() {
			if after != "" {
				time.Sleep(time.Duration(number(after)) * time.Millisecond)
				tell("ends", after)
			}
			os.Exit(number(code))
		})
	},
	"touch": func(value string) { write(value, "") },
	"write": func(value string) {
		path, text, _ := strings.Cut(value, "=")
		write(path, unquoted(text))
	},
	"remove": func(value string) { os.Remove(value) },
	// tells whether files can be made here
	"try": func(value string) {
		err := os.WriteFile(filepath.Join(value, ".tried"), nil, 0o600)
		if err == nil {
			os.Remove(filepath.Join(value, ".tried"))
		}
		tell("try "+value, errno(err))
	},
	// ends, as a probe or a hook, with 0 where the file is there
	"there": func(value string) {
		if _, err := os.Stat(value); err != nil {
			fmt.Println("not there:", value)
			os.Exit(1)
		}
	},
	"await": func(value string) {
		for {
			if _, err := os.Stat(value); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	},
	// the exit code of each run in turn, the last for all later ones; `stay` goes on: runs:/data/n=1,0,stay
	"runs": func(value string) {
		path, codes, _ := strings.Cut(value, "=")
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
		if err != nil {
			fail("runs: %v", err)
		}
		info, _ := file.Stat()
		file.WriteString("x")
		file.Close()
		list := strings.Split(codes, ",")
		tell("run", info.Size())
		if code := list[min(int(info.Size()), len(list)-1)]; code != "stay" {
			os.Exit(number(code))
		}
	},
	// MiB of memory that are used
	"use": func(value string) {
		memory := make([]byte, number(value)<<20)
		for at := 0; at < len(memory); at += 4096 {
			memory[at] = 1
		}
		tell("used", memory[0])
	},
	"http": func(value string) { go serve(value, web()) },
	"grpc": func(value string) {
		port, service, _ := strings.Cut(value, "=")
		go serve(port, health(service))
	},
	"tcp": func(value string) {
		listener, err := net.Listen("tcp", ":"+value)
		if err != nil {
			fail("tcp: %v", err)
		}
		go func() {
			for {
				if connection, err := listener.Accept(); err == nil {
					connection.Close()
				}
			}
		}()
	},
	// reads what comes in
	"input": func(string) {
		content, err := io.ReadAll(os.Stdin)
		tell("input", []any{string(content), fmt.Sprint(err)})
	},
	"connect": func(value string) {
		connection, err := net.DialTimeout("tcp", value, time.Second)
		if err == nil {
			connection.Close()
		}
		tell("connect", err == nil)
	},
	// a child that outlives its parent, for those who share processes
	"fork": func(value string) {
		attributes := &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}}
		if _, err := os.StartProcess("/proc/self/exe", append([]string{"tell"}, strings.Split(value, " ")...), attributes); err != nil {
			fail("fork: %v", err)
		}
	},
}

func unquoted(text string) string {
	made, err := strconv.Unquote(`"` + text + `"`)
	if err != nil {
		return text
	}
	return made
}

func write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tell("write "+path, errno(err))
	}
}

func errno(err error) string {
	for ; err != nil; err = unwrap(err) {
		if number, ok := err.(syscall.Errno); ok {
			return number.Error()
		}
	}
	return "ok"
}

func unwrap(err error) error {
	if path, ok := err.(*os.PathError); ok {
		return path.Err
	}
	return nil
}

func catch(names []string, then func()) {
	channel := make(chan os.Signal, 8)
	for _, name := range names {
		signal.Notify(channel, signals[name])
	}
	go func() {
		for received := range channel {
			tell("signal", nameOf(received))
			if then != nil {
				then()
			}
		}
	}()
}

func serve(port string, handler http.Handler) {
	server := &http.Server{Addr: ":" + port, Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	fail("serve: %v", server.ListenAndServe())
}

var told sync.Map

// web answers as paths say: /code/404, /slow/1500, /to/302/path, /big, /there/file, /hangup; each kind of request is told once.
func web() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := []any{r.Method, r.URL.String(), r.Host, r.Header, r.Proto, r.Close}
		line, _ := json.Marshal(seen)
		if _, before := told.LoadOrStore(string(line), true); !before {
			tell("request "+r.URL.Path, seen)
		}
		parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
		switch {
		case parts[0] == "code" && len(parts) > 1:
			w.WriteHeader(number(parts[1]))
			fmt.Fprintf(w, "this is %s", parts[1])
		case parts[0] == "slow" && len(parts) > 1:
			time.Sleep(time.Duration(number(parts[1])) * time.Millisecond)
		case parts[0] == "to" && len(parts) > 2:
			target := "/" + parts[2]
			if r.URL.RawQuery != "" {
				target = r.URL.RawQuery
			}
			w.Header().Set("Location", target)
			w.WriteHeader(number(parts[1]))
		case parts[0] == "loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case parts[0] == "big":
			io.WriteString(w, strings.Repeat("0123456789", 2000))
		case parts[0] == "bigfail":
			w.WriteHeader(500)
			io.WriteString(w, strings.Repeat("0123456789", 2000))
		case parts[0] == "there":
			if _, err := os.Stat("/" + strings.Join(parts[1:], "/")); err != nil {
				w.WriteHeader(503)
			}
		case parts[0] == "hangup":
			panic(http.ErrAbortHandler)
		case parts[0] == "header" && r.Header.Get("X-Wanted") == "":
			w.WriteHeader(400)
		default:
			io.WriteString(w, "ok")
		}
	})
}

// health is grpc.health.v1.Health for one service; HTTP/2 and a message of two bytes need no library.
func health(service string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked := ""
		if len(body) > 7 {
			asked = string(body[7:])
		}
		if _, before := told.LoadOrStore("grpc "+asked, true); !before {
			tell("call", []any{r.URL.Path, asked, r.Header.Get("User-Agent")})
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		switch {
		case service == "unimplemented":
			w.Header().Set("Grpc-Status", "12")
			w.Header().Set("Grpc-Message", "unknown service grpc.health.v1.Health")
		case asked != strings.TrimPrefix(service, "down-"):
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "unknown service")
		default:
			status := byte(1)
			if strings.HasPrefix(service, "down-") {
				status = 2
			}
			w.Write([]byte{0, 0, 0, 0, 2, 8, status})
			w.Header().Set("Grpc-Status", "0")
		}
	})
}

func main() {
	if len(os.Args) == 1 {
		report("")
	}
	for _, step := range os.Args[1:] {
		what, value, _ := strings.Cut(step, ":")
		do, known := steps[what]
		if !known {
			tell("not a step", step)
			continue
		}
		do(value)
	}
}
