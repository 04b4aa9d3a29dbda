module github.com/callmesh/callmesh/tests

go 1.26.0

require go.uber.org/goleak v1.3.0

require github.com/stretchr/testify v1.12.1 // indirect

replace github.com/callmesh/callmesh/kit => ../kit

replace github.com/callmesh/callmesh/proto => ../proto

replace golang.org/x/exp => golang.org/x/exp v0.0.0-20260908205506-85c1c2202aba

replace github.com/google/pprof => github.com/google/pprof v0.0.0-20260906184651-6331bc6350fe

replace github.com/callmesh/callmesh/gateway => ../gateway

replace github.com/callmesh/callmesh/ivrd => ../ivrd

replace github.com/callmesh/callmesh/mediad => ../mediad

replace github.com/callmesh/callmesh/recordingd => ../recordingd

replace github.com/callmesh/callmesh/sessiond => ../sessiond

replace github.com/callmesh/callmesh/allinone => ../allinone
