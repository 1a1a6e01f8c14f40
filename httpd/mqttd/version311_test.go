package mqttd

import (
	"fmt"
	"strings"
	"testing"

	"hearth/engine/mqtt"
)

// in4 lets in a client of MQTT 3.1.1.
const in4 = "a> connect v4 clean id=a; a< connack 00 present=0;"

// differences are what MQTT 3.1.1 has otherwise than MQTT 5, under the numbers of
// its own statements; all else is the same code, and tested with version 5.
var differences = []clause{
	{"3.1.2-2", "a version that is not known has return code 1", "a> 10 0c 00 04 4d 51 54 54 03 02 00 00 00 00; a| refused"},
	{"3.1.2-3", "CONNECT with its reserved flag is not answered", "a> 10 0c 00 04 4d 51 54 54 04 03 00 00 00 00; a| closed"},
	{"3.1.2-4 3.2.2-2", "a session that is not clean stays without a time of its own", `a> connect v4 id=k; a< connack 00 present=0; a> subscribe id=1 k/x:01
		a< suback id=1 01; a> disconnect; a| closed; wait 240h; b> connect v4 clean id=b; b< connack 00; b> publish t=k/x q=1 id=1 m=1; b< puback id=1
		a> connect v4 id=k; a< connack 00 present=1; a< publish t=k/x q=1 m=1 !dup; a> puback id=2; a> disconnect; a| closed
		a> connect v4 clean id=k; a< connack 00 present=0; a> disconnect; a| closed; a> connect v4 id=k; a< connack 00 present=0; a| quiet; a> disconnect; a| closed
		a> connect v4 clean id=k; a< connack 00 present=0`},
	{"3.1.2-6 3.2.2-3", "a clean one ends with its connection", `a> connect v4 clean id=c; a< connack 00; a> subscribe id=1 c/x:01; a< suback id=1; a| cut
		a> connect v4 id=c; a< connack 00 present=0; a> publish t=c/x m=1; a| quiet; a> disconnect; a| closed; a> connect v4 clean id=c; a< connack 00`},
	{"3.1.2-22", "a password without a name is not let in", "a> connect v4 clean id=a pass=x; a| closed"},
	{"3.1.3-6 3.1.3-7", "an empty client id has to be clean", "a> connect v4 clean id=; a< connack 00 present=0; a| quiet"},
	{"3.1.3-8 3.1.3-9", "and is refused with return code 2 where it is not", "a> connect v4 id=; a< connack 02 present=0; a| closed"},
	{"3.1.4-2", "who is taken over is not told why", "a> connect v4 clean id=same; a< connack 00; b> connect v4 clean id=same; b< connack 00; a| closed; b| quiet"},
	{"3.2.2-4 3.2.2-5", "a wrong password has return code 4", "a> connect v4 clean id=a user=x pass=wrong; a< connack 04 present=0; a| closed"},
	{"3.2.2-6", "what has no return code is closed without one", "a> 10 0d 00 04 4d 51 54 54 04 02 00 00 00 00 00; a| closed"},
	{"2.3.1-1", "a packet id of 0 is not answered", in4 + "a> publish t=x q=1 id=0 m=1; a| closed"},
	{"1.5.3-1", "nor is text that is not UTF-8", in4 + "a> 30 04 00 02 ed a0; a| closed"},
	{"3.3.5-2", "a message that may not be published is acknowledged all the same", in4 + "a> publish t=forbidden/x q=1 id=1 m=1; a< puback id=1 !code; a> publish t=forbidden/x q=2 id=2; a< pubrec id=2 !code; a| quiet"},
	{"3.3.5-1 3.8.4-6", "own messages come back, once for filters that overlap", in4 + "a> subscribe id=1 o/+:00 o/#:01; a< suback id=1 00 01; a> publish t=o/1 q=1 id=1 m=1; a< publish q=1 m=1; a< puback id=1; a| quiet"},
	{"3.3.1-8 3.3.1-9", "retained messages have their flag for a new subscriber only", in4 + `a> subscribe id=1 k/1:00; a< suback id=1; a> publish t=k/1 retain m=1; a< publish t=k/1 !retain
		a> subscribe id=2 k/1:00; a< suback id=2; a< publish t=k/1 retain m=1; a> publish t=k/1 retain; a< publish t=k/1`},
	{"3.8.3-4", "a subscription has a QoS and no other options", in4 + "a> subscribe id=1 x:04; a| closed"},
	{"3.8.3-3", "and there is one at least", in4 + "a> subscribe id=1; a| closed"},
	{"3.9.3-2", "a filter that is refused has code 80", in4 + "a> subscribe id=1 a/#/b:00 forbidden/x:01 x:02; a< suback id=1 80 80 02"},
	{"3.10.4-4 3.10.4-5", "UNSUBACK has no codes", in4 + "a> unsubscribe id=7 none; a< unsuback id=7 !00 !11; a| quiet"},
	{"3.14.4-3", "DISCONNECT has no reasons, and always forgets the will", `b> connect v4 clean id=b; b< connack 00; b> subscribe id=1 w/1:00; b< suback id=1
		a> connect v4 clean id=a will=w/1:gone; a< connack 00; a> e0 00; a| closed; b| quiet; a> connect v4 clean id=a will=w/1:gone; a< connack 00; a> e0 01 04; a| closed; b< publish t=w/1 m=gone`},
	{"4.3.3-2", "PUBREL of an id that is not known is answered", in4 + "a> pubrel id=9; a< pubcomp id=9 !code"},
	{"4.4.0-1", "what was not acknowledged comes again, marked, under its id", `a> connect v4 id=r; a< connack 00; a> subscribe id=1 r/#:02; a< suback id=1; b> connect v4 clean id=b; b< connack 00
		b> publish t=r/1 q=1 id=1 m=1; b< puback id=1; b> publish t=r/2 q=2 id=2 m=2; b< pubrec id=2; a< publish q=1 id=2 !dup; a< publish q=2 id=3 !dup; a| cut
		a> connect v4 id=r; a< connack 00 present=1; a< publish q=1 id=2 m=1 dup; a< publish q=2 id=3 m=2 dup; a> puback id=2; a> pubrec id=3; a< pubrel id=3; a> pubcomp id=3; a| quiet
		a> disconnect; a| closed; a> connect v4 clean id=r; a< connack 00`},
	{"4.3.2-2", "many messages under way wait, where version 5 ends the connection", in4 + several(12, "a> publish t=m/1 q=1 id=%d m=1;") + several(12, "a< puback id=%d;") + "a| quiet"},
	{"3.1.2-1", "messages of version 5 come without their properties", in4 + `a> subscribe id=1 $share/g/p/#:01; a< suback id=1 01; b> connect v5 clean id=b; b< connack 00
		b> publish t=p/1 q=1 id=1 p=01.01.02.00000064.03.0001.63.26.0001.62.0001.31 m=text; a< publish t=p/1 q=1 m=text; b< puback id=1; a| quiet`},
	{"3.15.1-1", "there is no AUTH", in4 + "a> f0 00; a| closed"},
}

// several lines with the numbers from 1 on.
func several(n int, line string) (script string) {
	for i := range n {
		script += fmt.Sprintf(line, i+1)
	}
	return script
}

func TestVersion311(t *testing.T) {
	h := start(t, mqtt.Options{Limits: mqtt.Limits{Inflight: 8}, May: func(_ mqtt.Identity, op mqtt.Op, topic string) bool {
		return !strings.HasPrefix(topic, "forbidden/")
	}}, Options{Packet: 20_000})
	for _, c := range differences {
		t.Run(strings.ReplaceAll(c.ids, " ", ",")+"/"+strings.ReplaceAll(c.says, " ", "_"), func(t *testing.T) {
			hh := *h
			hh.t = t
			hh.play(t, c.script)
		})
	}
}
