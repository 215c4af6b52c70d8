// Command go is a management server for the tests, on the snapshot cache of go-control-plane: an implementation of the
// protocol that shares no line with ours.
//
// Standard input: one snapshot a line, {"version": "…", "resources": ["<base64 of an Any>", …]}. A type is pushed when its
// resources or the version changed; with the same version an equal snapshot is no news, also after a restart. It listens
// once it has the first. Standard output, a JSON object a line: where it listens, then each stream, request and response.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"slices"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Every node gets the same.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "everyone" }

// What happened, as it is printed.
type event struct {
	Event       string            `json:"event"`
	Address     string            `json:"address,omitempty"`
	Stream      int64             `json:"stream,omitempty"`
	Node        string            `json:"node,omitempty"`
	Type        string            `json:"type,omitempty"`
	Version     string            `json:"version,omitempty"`
	Nonce       string            `json:"nonce,omitempty"`
	Names       []string          `json:"names,omitempty"`
	Unsubscribe []string          `json:"unsubscribe,omitempty"`
	Removed     []string          `json:"removed,omitempty"`
	Initial     map[string]string `json:"initial,omitempty"`
	Error       string            `json:"error,omitempty"`
}

var printing sync.Mutex

func tell(e event) {
	slices.Sort(e.Names)
	printing.Lock()
	defer printing.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(e); err != nil {
		log.Fatal(err)
	}
}

func callbacks(delta bool) server.Callbacks {
	open := func(isDelta bool) func(context.Context, int64, string) error {
		return func(_ context.Context, stream int64, _ string) error {
			if isDelta != delta {
				return errors.New("this server was started for the other variant")
			}
			tell(event{Event: "open", Stream: stream})
			return nil
		}
	}
	closed := func(stream int64, _ *core.Node) { tell(event{Event: "closed", Stream: stream}) }
	return server.CallbackFuncs{
		StreamOpenFunc:        open(false),
		DeltaStreamOpenFunc:   open(true),
		StreamClosedFunc:      closed,
		DeltaStreamClosedFunc: closed,
		StreamRequestFunc: func(stream int64, r *discovery.DiscoveryRequest) error {
			tell(event{Event: "request", Stream: stream, Node: r.GetNode().GetId(), Type: r.GetTypeUrl(),
				Version: r.GetVersionInfo(), Nonce: r.GetResponseNonce(), Names: slices.Clone(r.GetResourceNames()),
				Error: r.GetErrorDetail().GetMessage()})
			return nil
		},
		StreamResponseFunc: func(_ context.Context, stream int64, _ *discovery.DiscoveryRequest, r *discovery.DiscoveryResponse) {
			var names []string
			for _, resource := range r.GetResources() {
				if message, err := resource.UnmarshalNew(); err == nil {
					names = append(names, cache.GetResourceName(message))
				}
			}
			tell(event{Event: "response", Stream: stream, Type: r.GetTypeUrl(), Version: r.GetVersionInfo(),
				Nonce: r.GetNonce(), Names: names})
		},
		StreamDeltaRequestFunc: func(stream int64, r *discovery.DeltaDiscoveryRequest) error {
			tell(event{Event: "request", Stream: stream, Node: r.GetNode().GetId(), Type: r.GetTypeUrl(),
				Nonce: r.GetResponseNonce(), Names: slices.Clone(r.GetResourceNamesSubscribe()),
				Unsubscribe: r.GetResourceNamesUnsubscribe(), Initial: r.GetInitialResourceVersions(),
				Error: r.GetErrorDetail().GetMessage()})
			return nil
		},
		StreamDeltaResponseFunc: func(stream int64, _ *discovery.DeltaDiscoveryRequest, r *discovery.DeltaDiscoveryResponse) {
			var names []string
			for _, resource := range r.GetResources() {
				names = append(names, resource.GetName())
			}
			tell(event{Event: "response", Stream: stream, Type: r.GetTypeUrl(), Version: r.GetSystemVersionInfo(),
				Nonce: r.GetNonce(), Names: names, Removed: r.GetRemovedResources()})
		},
	}
}

func snapshot(line []byte) (*cache.Snapshot, error) {
	var step struct {
		Version   string
		Resources [][]byte
	}
	if err := json.Unmarshal(line, &step); err != nil {
		return nil, err
	}
	byType := make([][]types.Resource, types.UnknownType)
	digests := make([][]byte, types.UnknownType)
	for _, bytes := range step.Resources {
		wrapped := &anypb.Any{}
		if err := proto.Unmarshal(bytes, wrapped); err != nil {
			return nil, err
		}
		message, err := wrapped.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		kind := cache.GetResponseType(wrapped.GetTypeUrl())
		if kind == types.UnknownType {
			return nil, errors.New("no such type: " + wrapped.GetTypeUrl())
		}
		byType[kind] = append(byType[kind], message)
		digests[kind] = append(digests[kind], bytes...)
	}
	made := &cache.Snapshot{}
	for kind, resources := range byType {
		digest := sha256.Sum256(digests[kind])
		made.Resources[kind] = cache.NewResources(step.Version+"-"+hex.EncodeToString(digest[:4]), resources)
	}
	return made, nil
}

func main() {
	delta := flag.Bool("delta", false, "serve delta xDS, and nothing else; state of the world without it")
	address := flag.String("listen", "127.0.0.1:0", "where to listen")
	flag.Parse()
	ctx := context.Background()
	snapshots := cache.NewSnapshotCache(true, everyone{}, nil)
	service := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(service, server.NewServer(ctx, snapshots, callbacks(*delta)))
	listen := sync.OnceFunc(func() {
		listener, err := net.Listen("tcp", *address)
		if err != nil {
			log.Fatal(err)
		}
		tell(event{Event: "listening", Address: listener.Addr().String()})
		go func() { log.Fatal(service.Serve(listener)) }()
	})
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		made, err := snapshot(line)
		if err == nil {
			err = snapshots.SetSnapshot(ctx, "everyone", made)
		}
		if err != nil {
			log.Fatal(err)
		}
		listen()
	}
}
